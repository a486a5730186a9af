"""Class decorator that stores constructor arguments, so that checkpoints can rebuild modules."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from torch import nn

_ClassT = TypeVar("_ClassT", bound=type)


def store_init_args(**overrides: object) -> Callable[[_ClassT], _ClassT]:
    """Class decorator: instances store their constructor arguments, including defaults, as the dict ``.init_args``.

    A subclass with its own ``__init__`` must be decorated, too.

    Args:
        **overrides: Values to store instead of the given arguments. With ``@store_init_args(pretrained=False)``, pretrained weights are
            not downloaded again when the checkpoint, which contains them, is loaded.

    Raises:
        TypeError: At decoration, if the constructor takes ``*args`` or ``**kwargs``.
    """

    def decorate(cls: _ClassT) -> _ClassT:
        original_init = cls.__init__
        signature = _init_signature(cls)

        @functools.wraps(original_init)
        def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
            original_init(self, *args, **kwargs)
            if type(self).__init__ is __init__:  # not called by a subclass
                bound = signature.bind(*args, **kwargs)
                bound.apply_defaults()
                self.init_args = dict(bound.arguments) | overrides

        cls.__init__ = __init__
        cls.init_overrides = dict(overrides)
        return cls

    return decorate


def _init_signature(cls: type) -> inspect.Signature:
    """Return the signature of the constructor without ``self``; empty for ``nn.Module.__init__``."""
    if cls.__init__ is nn.Module.__init__:
        return inspect.Signature()
    signature = inspect.signature(cls)
    variadic = [p.name for p in signature.parameters.values() if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if variadic:
        raise TypeError(f"{cls.__name__} takes *{variadic[0]}, which cannot be stored; declare every argument by name.")
    return signature
