"""Settings and results as JSON."""

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy
from torch import Tensor

from featlift.checkpoints.atomic import write_atomic


def write_json(path: str | Path, value: Any) -> Path:
    """Write ``value`` as JSON, atomically; everything that `to_jsonable` accepts. Returns ``path``."""
    return write_atomic(path, json.dumps(to_jsonable(value), indent=2, ensure_ascii=False) + "\n", durable=True)


def to_jsonable(value: Any) -> Any:
    """Convert ``value`` to JSON types: dataclasses and mappings to dicts, tuples and sets to lists, tensors to numbers
    or lists, paths, devices and other objects to strings.
    """
    if is_dataclass(value):
        return to_jsonable({field.name: getattr(value, field.name) for field in fields(value)})
    if isinstance(value, Mapping):
        return {str(k): to_jsonable(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [to_jsonable(v) for v in (sorted(value) if isinstance(value, set) else value)]
    if isinstance(value, (Tensor, numpy.ndarray, numpy.generic)):
        return value.tolist()
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def flatten_dict(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested mappings to one level with dotted names: ``{"model": {"depth": 3}}`` → ``{"model.depth": 3}``."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= flatten_dict(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat
