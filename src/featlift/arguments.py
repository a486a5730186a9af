"""Parts that remember the arguments they were built with, so that a checkpoint can build them again."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

Part = TypeVar("Part", bound=type)


def remember(**instead: object) -> Callable[[Part], Part]:
    """A class decorator: instances keep their constructor's arguments, defaults included, as the dict ``.arguments``.

    ``instead`` names arguments that are to be remembered as something else. ``@remember(pretrained=False)``: weights
    that were fetched once are in the checkpoint, and must not be fetched again when it is loaded.

    A subclass with an ``__init__`` of its own has to be decorated, too.
    """

    def decorate(part: Part) -> Part:
        build = part.__init__
        signature = inspect.signature(build)

        @functools.wraps(build)
        def __init__(self: Any, *args: Any, **named: Any) -> None:
            build(self, *args, **named)
            if type(self).__init__ is __init__:  # and not called by a subclass
                bound = signature.bind(self, *args, **named)
                bound.apply_defaults()
                self.arguments = dict(list(bound.arguments.items())[1:]) | instead

        part.__init__ = __init__
        return part

    return decorate
