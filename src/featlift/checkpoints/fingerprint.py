"""Fingerprints of weights, which tie stored features, descriptors and deltas to the network that they belong to."""

import hashlib
from collections.abc import Mapping
from itertools import chain

import torch
from torch import Tensor, nn


def tensors_fingerprint(tensors: Mapping[str, Tensor], context: str = "") -> str:
    """Return the hexadecimal SHA-256 of ``context`` and of names, dtypes, shapes and values; the order of the names has no influence."""
    digest = hashlib.sha256(context.encode())
    for name, tensor in sorted(tensors.items()):
        if isinstance(tensor, Tensor):
            digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def module_fingerprint(module: nn.Module, *settings: object) -> str:
    """Return 16 hexadecimal digits that depend on the layers, their options, all parameters and buffers, and ``settings``."""
    tensors = dict(chain(module.named_parameters(), module.named_buffers()))
    return tensors_fingerprint(tensors, f"{module!r} {settings}")[:16]
