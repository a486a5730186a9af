"""Look-up of names in tables, with errors that list the choices and suggest the nearest one. Independent of PyTorch."""

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

_EntryT = TypeVar("_EntryT")


def find_nearest(word: str, candidates: Iterable[str], cutoff: float = 0.6) -> str:
    """Return the candidate that is spelled most like ``word``, or "" if the similarity of all (0…1) is below ``cutoff``."""
    return next(iter(difflib.get_close_matches(word, list(candidates), n=1, cutoff=cutoff)), "")


def suggest(word: str, candidates: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for the candidate that is spelled most like ``word``, or "" if none is similar."""
    nearest = find_nearest(word, candidates)
    return f" Did you mean '{nearest}'?" if nearest else ""


def look_up(table: Mapping[str, _EntryT], name: str, what: str) -> _EntryT:
    """Return the entry ``name`` of ``table``.

    Raises:
        ValueError: If there is no such entry: ``what`` ("detector"), the nearest name and all names.
    """
    if name not in table:
        raise ValueError(f"Unknown {what} '{name}'.{suggest(name, table)} Choose one of: {', '.join(table)}.")
    return table[name]


def check_choice(value: object, choices: Iterable[str], what: str) -> None:
    """Check that ``value`` is one of a few ``choices``.

    Raises:
        ValueError: If it is not: ``what`` ("precision") and the choices.
    """
    choices = tuple(choices)
    if value not in choices:
        raise ValueError(f"Unknown {what} '{value}'; choose one of {', '.join(choices)}.")


def check_options(name: str, factory: Callable[..., object], options: Iterable[str], skip: Iterable[str] = ()) -> None:
    """Check that ``factory``, registered under ``name``, has the parameters ``options``.

    Args:
        name: Name in the error message.
        factory: Class or function.
        options: Names of keyword arguments.
        skip: Parameters of ``factory`` that are no options, such as ``channels``.

    Raises:
        ValueError: If it lacks some: their names and those of all options.
    """
    known = [option for option in inspect.signature(factory).parameters if option not in tuple(skip)]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ValueError(f"'{name}' has no option {', '.join(unknown)}; it has: {', '.join(known) or 'none'}.")
