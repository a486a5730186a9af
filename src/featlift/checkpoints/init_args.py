"""Parts that remember the arguments they were built with, so that a checkpoint can build them again."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from torch import nn

_ClassT = TypeVar("_ClassT", bound=type)


def store_init_args(**overrides: object) -> Callable[[_ClassT], _ClassT]:
    """A class decorator: instances keep their constructor's arguments, defaults included, as the dict ``.arguments``.

    ``overrides`` names arguments that are to be remembered as something else. ``@remember(pretrained=False)``: weights
    that were fetched once are in the checkpoint, and must not be fetched again when it is loaded.

    A subclass with an ``__init__`` of its own has to be decorated, too.

    Raises:
        TypeError: while decorating, if the constructor takes ``*args`` or ``**kwargs``: those have no names to remember.
    """

    def decorate(part: _ClassT) -> _ClassT:
        build = part.__init__
        signature = _init_signature(part)

        @functools.wraps(build)
        def __init__(self: Any, *args: Any, **named: Any) -> None:
            build(self, *args, **named)
            if type(self).__init__ is __init__:  # and not called by a subclass
                bound = signature.bind(*args, **named)
                bound.apply_defaults()
                self.arguments = dict(bound.arguments) | overrides

        part.__init__ = __init__
        return part

    return decorate


def _init_signature(part: type) -> inspect.Signature:
    """Of the constructor, without ``self``; empty where there is only PyTorch's."""
    if part.__init__ is nn.Module.__init__:
        return inspect.Signature()
    found = inspect.signature(part)
    nameless = [p.name for p in found.parameters.values() if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if nameless:
        raise TypeError(f"{part.__name__} takes *{nameless[0]}, which cannot be remembered: name every argument.")
    return found
