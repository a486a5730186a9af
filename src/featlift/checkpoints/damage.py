"""Errors of damaged files, which name the file and say what to do."""

import json
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

ERRORS = (
    AttributeError,
    EOFError,
    IndexError,
    KeyError,
    OverflowError,
    RecursionError,
    RuntimeError,
    SafetensorError,
    TypeError,
    UnicodeDecodeError,
    json.JSONDecodeError,
    pickle.UnpicklingError,
)
"""What readers raise on files of unexpected content."""


@contextmanager
def explain_damage(path: str | Path, remedy: str) -> Iterator[None]:
    """Turn an error of the body, which reads the file ``path``, into one that names the file and the ``remedy``.

    Raises:
        ValueError: If the body raises one of `ERRORS`.
    """
    try:
        yield
    except ERRORS as error:
        raise ValueError(f"{path} is damaged or of another version ({describe_cause(error)}). {remedy}") from error


def describe_cause(error: BaseException) -> str:
    """Return the type and the first line of ``error``, without a period."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0].rstrip('.')}" if lines else type(error).__name__


def read_json(path: str | Path, remedy: str = "Write it anew or delete it.") -> Any:
    """Return the content of the JSON file ``path``.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If it is no JSON; the message ends with ``remedy``.
    """
    with explain_damage(path, remedy):
        return json.loads(Path(path).read_text(encoding="utf-8"))
