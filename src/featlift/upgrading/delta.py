"""An upgrade in a file: only what was added or trained, in safetensors, with the fingerprint of what it was trained on."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from featlift.upgrading.extended_level import enable_level, get_small_roi_size
from featlift.upgrading.upgrade import copy_tensors, downgrade, get_upgrade_state, is_upgraded, upgrade

DELTA_FORMAT = "featlift-delta-1"


def save_delta(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Write what distinguishes an upgraded ``model`` from the network it was: added tensors, and old ones that changed.

    Written to a temporary name and renamed, so that the file is whole or not there.

    Raises:
        ValueError: if ``model`` was not upgraded.
    """
    memory = get_upgrade_state(model)
    before = memory.original_weights.tensors
    now = {name: x.detach().cpu() for name, x in model.state_dict().items() if isinstance(x, Tensor)}
    new = {name: x.clone().contiguous() for name, x in now.items() if not _is_unchanged(x, before.get(name))}
    about = {
        "format": DELTA_FORMAT,
        "interpolator": memory.name,
        "options": json.dumps(memory.options, sort_keys=True),
        "neck": memory.neck,
        "sites": json.dumps(memory.sites),
        "base": weights_fingerprint(before),
        "level": memory.level,
        "limit": str(get_small_roi_size(model) if memory.level else 0.0),
    }
    unfinished = Path(f"{os.fspath(path)}.tmp")
    save_file(new, unfinished, about)
    unfinished.replace(path)


def load_delta(model: nn.Module, path: str | os.PathLike[str], example_inputs: Any = None, strict: bool = True) -> None:
    """Bring the network that a delta was saved from to the state it was saved in; upgrades it if it is not upgraded.

    Args:
        model: with the weights that the upgrade began with, or upgraded from these in the same way. What was trained since is lost.
        path: of a file that :func:`save_delta` wrote.
        example_inputs: as for :func:`~featlift.upgrading.upgrade.upgrade`.
        strict: refuse a network with other weights. False loads it all the same: the added part then meets maps it was not trained on.

    Raises:
        ValueError: if it is no delta, or one of another network, upgrade or (if ``strict``) of other weights; ``model`` is then unchanged.
    """
    about, tensors = _read_delta(path)
    fresh = not is_upgraded(model)
    before = model.state_dict() if fresh else get_upgrade_state(model).original_weights.tensors
    if strict and weights_fingerprint(before) != about["base"]:
        raise ValueError(
            f"{path} was trained on a {type(model).__name__} with other weights. Load those first, or give strict=False "
            "to put it onto these; it should then be trained further."
        )
    if fresh:
        level = about.get("level", "")
        upgrade(model, about["interpolator"], about["neck"], example_inputs, level, **json.loads(about["options"]))
    try:
        _check_same_upgrade(model, about, tensors, path)
    except ValueError:
        if fresh:
            downgrade(model)
        raise
    copy_tensors(model, get_upgrade_state(model).original_weights.tensors)
    copy_tensors(model, tensors)
    if about.get("level"):
        enable_level(model, float(about["limit"]))


def weights_fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, types, shapes and values, in hexadecimal; the order of the names does not matter."""
    digest = hashlib.sha256()
    for name, x in sorted(tensors.items()):
        if isinstance(x, Tensor):
            digest.update(f"{name} {x.dtype} {tuple(x.shape)}\n".encode())
            digest.update(x.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _read_delta(path: str | os.PathLike[str]) -> tuple[dict[str, str], dict[str, Tensor]]:
    with safe_open(path, framework="pt") as file:
        about = file.metadata() or {}
        if about.get("format") != DELTA_FORMAT:
            raise ValueError(f"{path} is a safetensors file, but no delta: save_delta writes them.")
        return about, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def _check_same_upgrade(model: nn.Module, metadata: dict[str, str], tensors: dict[str, Tensor], path: object) -> None:
    memory = get_upgrade_state(model)
    here = (memory.name, json.dumps(memory.options, sort_keys=True), json.dumps(memory.sites))
    there = (metadata["interpolator"], metadata["options"], metadata["sites"])
    state = model.state_dict()
    added = set(state) - set(memory.original_weights.tensors)
    wrong = sorted(n for n, x in tensors.items() if n not in state or state[n].shape != x.shape)
    wrong += sorted(added - set(tensors))
    if here != there or wrong:
        raise ValueError(
            f"{path} belongs to another upgrade. In the file: {', '.join(there)}; here: {', '.join(here)}"
            + (f"; tensors that do not fit: {', '.join(wrong[:4])}." if wrong else ".")
        )


def _is_unchanged(x: Tensor, before: Tensor | None) -> bool:
    return before is not None and x.shape == before.shape and torch.equal(x, before.to(x.dtype))
