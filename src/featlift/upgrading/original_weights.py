"""The weights of a network before its upgrade: their fingerprints, and a copy that is not pickled."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from featlift.checkpoints.fingerprint import tensors_fingerprint


class OriginalWeights:
    """All tensors of the state dict before the upgrade; shared by copies of the network.

    A pickle contains the fingerprint of each tensor instead of the tensors, so checkpoints do not grow.

    Args:
        model: Network before the upgrade.
        keep: Keep a copy of the tensors on the CPU; otherwise only their fingerprints.

    Attributes:
        tensors: Copies, by name; None if they were not kept.
        names: Names of the tensors.
    """

    def __init__(self, model: nn.Module, keep: bool):
        tensors = network_tensors(model)
        self.names = tuple(tensors)
        self.tensors = {name: x.detach().to("cpu", copy=True) for name, x in tensors.items()} if keep else None
        self._fingerprints = None if keep else fingerprint_each(tensors)

    @property
    def fingerprints(self) -> dict[str, str]:
        """Name → SHA-256 of the tensor; computed when it is first needed."""
        if self._fingerprints is None:
            self._fingerprints = fingerprint_each(self.tensors or {})
        return self._fingerprints

    def is_unchanged(self, name: str, x: Tensor) -> bool:
        """Return whether ``name`` is an original tensor with the values ``x``."""
        if self.tensors is None:
            return self.fingerprints.get(name) == fingerprint_each({name: x})[name]
        original = self.tensors.get(name)
        return original is not None and torch.equal(x, original.to(x.dtype))

    def resolve(self, weights: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
        """Return the original tensors from the state dict ``weights``, or the kept copy if it is None.

        Raises:
            ValueError: If there is no copy, or ``weights`` lack a tensor.
        """
        if weights is None and self.tensors is None:
            raise ValueError(
                "This network has no copy of its original weights: copies are not pickled with a model, and keep_weights=False keeps "
                "none. Pass them, downgrade(model, weights=original.state_dict()), or keep the trained values: "
                "downgrade(model, weights=model.state_dict())."
            )
        tensors: Mapping[str, Tensor] = weights if weights is not None else self.tensors or {}
        missing = [name for name in self.names if name not in tensors]
        if missing:
            raise ValueError(f"weights lack {len(missing)} tensors of the original network: {', '.join(missing[:4])}.")
        return {name: tensors[name] for name in self.names}

    def __deepcopy__(self, memo: dict[int, Any]) -> "OriginalWeights":
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {"names": self.names, "tensors": None, "_fingerprints": self.fingerprints}


def network_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of the state dict of ``model``, without other extra state."""
    return {name: x for name, x in model.state_dict().items() if isinstance(x, Tensor)}


def fingerprint_each(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Return the SHA-256 of dtype, shape and values of each tensor, by name."""
    return {name: tensors_fingerprint({"": x}) for name, x in tensors.items()}


def combine_fingerprints(fingerprints: Mapping[str, str], names: Iterable[str]) -> str:
    """Return one SHA-256 of the ``fingerprints`` of the tensors ``names``; their order has no influence."""
    return hashlib.sha256("\n".join(f"{name} {fingerprints[name]}" for name in sorted(names)).encode()).hexdigest()
