"""Example inputs as JSON, so that a delta can upgrade a network again without being given them.

The traced interpolations depend on the shapes of the inputs, hardly on their values: a large floating-point tensor, such as an image, is
stored as its shape and mean. Small tensors and integers, such as token ids and masks, are stored exactly.
"""

import base64
import json
import zlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

MAX_EXACT_ELEMENTS = 4096
"""Number of elements up to which a floating-point tensor is stored exactly."""


def encode_example(example: Any) -> str:
    """Return ``example`` as JSON: tensors, numbers, strings, None and booleans in lists, tuples and dictionaries.

    The result is empty if ``example`` is None or contains other objects.
    """
    try:
        return "" if example is None else json.dumps(_encode(example))
    except TypeError:
        return ""


def decode_example(text: str, device: torch.device | str = "cpu") -> Any:
    """Return the example inputs in ``text``, with tensors on ``device``; None if ``text`` is empty."""
    return _decode(json.loads(text), device) if text else None


def _encode(value: Any) -> Any:
    if isinstance(value, Tensor):
        return _encode_tensor(value.detach().cpu())
    if isinstance(value, Mapping):
        return {"dict": [[_encode(key), _encode(item)] for key, item in value.items()]}
    if isinstance(value, tuple):
        return {"tuple": [_encode(item) for item in value]}
    if isinstance(value, list):
        return [_encode(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{type(value).__name__} cannot be stored")


def _encode_tensor(x: Tensor) -> dict[str, Any]:
    encoded: dict[str, Any] = {"tensor": list(x.shape), "dtype": str(x.dtype).removeprefix("torch.")}
    if x.is_floating_point() and x.numel() > MAX_EXACT_ELEMENTS:
        return {**encoded, "fill": x.double().mean().item()}
    data = x.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return {**encoded, "zlib": base64.b64encode(zlib.compress(data)).decode()}


def _decode(value: Any, device: torch.device | str) -> Any:
    if isinstance(value, list):
        return [_decode(item, device) for item in value]
    if not isinstance(value, dict):
        return value
    if "dict" in value:
        return {_decode(key, device): _decode(item, device) for key, item in value["dict"]}
    if "tuple" in value:
        return tuple(_decode(item, device) for item in value["tuple"])
    return _decode_tensor(value).to(device)


def _decode_tensor(value: dict[str, Any]) -> Tensor:
    dtype = getattr(torch, value["dtype"])
    if "fill" in value:
        return torch.full(value["tensor"], value["fill"], dtype=dtype)
    data = bytearray(zlib.decompress(base64.b64decode(value["zlib"])))
    x = torch.frombuffer(data, dtype=torch.uint8) if data else torch.empty(0, dtype=torch.uint8)
    return x.view(dtype).reshape(value["tensor"])
