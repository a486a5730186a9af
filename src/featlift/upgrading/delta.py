"""Save and load an upgrade: only added or trained tensors, in safetensors, with the fingerprint of the base weights."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from featlift.checkpoints.fingerprint import tensors_fingerprint
from featlift.checkpoints.tensors import read_tensors, write_tensors
from featlift.upgrading.extended_level import enable_level, get_small_roi_size
from featlift.upgrading.upgrade import copy_tensors, downgrade, get_upgrade_state, is_upgraded, upgrade

DELTA_FORMAT = "featlift-delta-1"


def save_delta(model: nn.Module, path: str | Path) -> None:
    """Write the difference between an upgraded ``model`` and its original: added tensors and changed tensors.

    The file is written under a temporary name and renamed, so an interrupted write leaves no partial file.

    Raises:
        ValueError: If ``model`` is not upgraded.
    """
    state = get_upgrade_state(model)
    original = state.original_weights.tensors
    current = {name: x.detach().cpu() for name, x in model.state_dict().items() if isinstance(x, Tensor)}
    changed = {name: x for name, x in current.items() if not _is_unchanged(x, original.get(name))}
    metadata = {
        "format": DELTA_FORMAT,
        "interpolator": state.name,
        "options": json.dumps(state.options, sort_keys=True),
        "neck": state.neck,
        "sites": json.dumps(state.sites),
        "base_fingerprint": tensors_fingerprint(original),
        "level": state.level,
        "small_roi_size": str(get_small_roi_size(model) if state.level else 0.0),
    }
    write_tensors(path, changed, metadata)


def load_delta(model: nn.Module, path: str | Path, example_inputs: Any = None, strict: bool = True) -> None:
    """Load a delta into ``model``; upgrades the model first if necessary.

    Args:
        model: Network with the original weights, or already upgraded with the same options. Later training is discarded.
        path: File written by :func:`save_delta`.
        example_inputs: As in :func:`~featlift.upgrading.upgrade.upgrade`.
        strict: Reject a model with other base weights. With False, the adapters may receive features they were not trained on.

    Raises:
        ValueError: If the file is no delta, or belongs to another network, upgrade or (if ``strict``) other base weights; ``model``
            stays unchanged.
    """
    metadata, tensors = _read_delta(path)
    needs_upgrade = not is_upgraded(model)
    original = model.state_dict() if needs_upgrade else get_upgrade_state(model).original_weights.tensors
    if strict and tensors_fingerprint(original) != metadata["base_fingerprint"]:
        raise ValueError(
            f"{path} was trained on a {type(model).__name__} with other weights. Load these weights first, or pass "
            "strict=False to apply the delta anyway and train it further."
        )
    if needs_upgrade:
        level, options = metadata.get("level", ""), json.loads(metadata["options"])
        upgrade(model, metadata["interpolator"], metadata["neck"], example_inputs, level, **options)
    try:
        _check_same_upgrade(model, metadata, tensors, path)
    except ValueError:
        if needs_upgrade:
            downgrade(model)
        raise
    copy_tensors(model, get_upgrade_state(model).original_weights.tensors)
    copy_tensors(model, tensors)
    if metadata.get("level"):
        enable_level(model, float(metadata["small_roi_size"]))


def _read_delta(path: str | Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    tensors, metadata = read_tensors(path)
    if metadata.get("format") != DELTA_FORMAT:
        raise ValueError(f"{path} is a safetensors file, but not a delta. Pass a file written by save_delta.")
    return metadata, tensors


def _check_same_upgrade(model: nn.Module, metadata: dict[str, str], tensors: dict[str, Tensor], path: object) -> None:
    upgrade_state = get_upgrade_state(model)
    actual = (upgrade_state.name, json.dumps(upgrade_state.options, sort_keys=True), json.dumps(upgrade_state.sites))
    expected = (metadata["interpolator"], metadata["options"], metadata["sites"])
    state = model.state_dict()
    added = set(state) - set(upgrade_state.original_weights.tensors)
    mismatched = sorted(n for n, x in tensors.items() if n not in state or state[n].shape != x.shape)
    mismatched += sorted(added - set(tensors))
    if actual != expected or mismatched:
        raise ValueError(
            f"{path} belongs to another upgrade. File: {', '.join(expected)}; model: {', '.join(actual)}"
            + (f"; mismatched tensors: {', '.join(mismatched[:4])}." if mismatched else ".")
        )


def _is_unchanged(x: Tensor, original: Tensor | None) -> bool:
    return original is not None and x.shape == original.shape and torch.equal(x, original.to(x.dtype))
