"""Save and load an upgrade: only added or trained tensors, in safetensors, with the fingerprint of the other weights."""

import json
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from featlift.checkpoints.fingerprint import tensors_fingerprint
from featlift.checkpoints.hub import resolve_hub_path
from featlift.checkpoints.tensors import read_tensors, write_tensors
from featlift.upgrading.example_inputs import decode_example
from featlift.upgrading.extended_level import enable_level, get_level_min_score, get_small_roi_size
from featlift.upgrading.original_weights import combine_fingerprints, fingerprint_each, network_tensors
from featlift.upgrading.pretrained_folder import read_pretrained_folder
from featlift.upgrading.state import copy_tensors, get_upgrade_state, is_upgraded
from featlift.upgrading.upgrade import downgrade, upgrade
from featlift.upgrading.wrappers import unwrap_module

DELTA_FILE = "delta.safetensors"
"""Name of the file in a repository of the Hub."""
DELTA_FORMAT = "featlift-delta-2"
READABLE_FORMATS = ("featlift-delta-1", DELTA_FORMAT)
"""Format 1 has the fingerprint of all original weights instead of those that are not in the file."""


def save_delta(model: nn.Module, path: str | Path) -> None:
    """Write the difference between an upgraded ``model`` and its original: added tensors and changed tensors.

    The file is written under a temporary name and renamed, so an interrupted write leaves no partial file. Names are those of the
    network inside wrappers such as ``DataParallel``. The example inputs of the upgrade are stored, too.

    Raises:
        ValueError: If ``model`` is not upgraded.
    """
    model = unwrap_module(model)
    state = get_upgrade_state(model)
    originals = state.original_weights
    current = {name: x.detach().cpu() for name, x in network_tensors(model).items()}
    changed = {name: x for name, x in current.items() if not originals.is_unchanged(name, x)}
    unchanged = [name for name in originals.names if name not in changed]
    metadata = {
        "format": DELTA_FORMAT,
        **state.describe(),
        "unchanged_fingerprint": combine_fingerprints(originals.fingerprints, unchanged),
        "small_roi_size": str(get_small_roi_size(model) if state.level else 0.0),
        "level_min_score": str(get_level_min_score(model)),
    }
    write_tensors(path, changed, metadata)


def load_delta(model: nn.Module, path: str | Path, example_inputs: Any = None, strict: bool = True) -> None:
    """Load a delta into ``model``; upgrades the model first if necessary.

    Args:
        model: Network with the original weights, or already upgraded with the same options, also in a wrapper such as ``DataParallel``.
            Later training is discarded.
        path: File written by :func:`save_delta`; or a folder written by Hugging Face's ``save_pretrained`` of an upgraded model, of which
            ``model`` has the weights by ``from_pretrained``; or a repository of the Hub, "hub:OWNER/NAME".
        example_inputs: As in :func:`~featlift.upgrading.upgrade.upgrade`; default: those stored in the file.
        strict: Reject a model in which weights that are not in the file differ from those of the saved model. With False, the adapters may
            receive features they were not trained on.

    Raises:
        ValueError: If the file is no delta, or belongs to another network, upgrade or (if ``strict``) other base weights; ``model``
            stays unchanged.
    """
    model, path = unwrap_module(model), resolve_hub_path(path, [DELTA_FILE])
    metadata, tensors = read_pretrained_folder(path) if path.is_dir() else _read_delta(path)
    needs_upgrade = not is_upgraded(model)
    base = _base_tensors(model)
    if strict and not _is_same_base(base, metadata, tensors):
        raise ValueError(
            f"{path} was trained on a {type(model).__name__} with other weights. Load these weights first, or pass "
            "strict=False to apply the delta anyway and train it further."
        )
    if needs_upgrade:
        level, options = metadata.get("level", ""), json.loads(metadata["options"])
        example = example_inputs if example_inputs is not None else _stored_example(model, metadata)
        upgrade(model, metadata["interpolator"], metadata["neck"], example, level, **options)
    try:
        _check_same_upgrade(model, metadata, tensors, path)
    except ValueError:
        if needs_upgrade:
            downgrade(model)
        raise
    if not needs_upgrade:
        copy_tensors(model, base)
    copy_tensors(model, tensors)
    if metadata.get("level"):
        enable_level(model, float(metadata.get("small_roi_size", 0)), float(metadata.get("level_min_score", 0)))


def _read_delta(path: str | Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    tensors, metadata = read_tensors(path)
    if metadata.get("format") not in READABLE_FORMATS:
        raise ValueError(f"{path} is a safetensors file, but not a delta. Pass a file written by save_delta.")
    return metadata, tensors


def _base_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return the original tensors of ``model``; of an upgraded model without a copy, the current values of these tensors."""
    current = network_tensors(model)
    if not is_upgraded(model):
        return current
    originals = get_upgrade_state(model).original_weights
    return originals.tensors or {name: current[name] for name in originals.names if name in current}


def _is_same_base(base: dict[str, Tensor], metadata: dict[str, str], changed: dict[str, Tensor]) -> bool:
    if "base_fingerprint" in metadata:
        return tensors_fingerprint(base) == metadata["base_fingerprint"]
    if "unchanged_fingerprint" not in metadata:  # a folder with all weights
        return True
    unchanged = {name: x for name, x in base.items() if name not in changed}
    return combine_fingerprints(fingerprint_each(unchanged), unchanged) == metadata["unchanged_fingerprint"]


def _stored_example(model: nn.Module, metadata: dict[str, str]) -> Any:
    parameter = next(model.parameters(), None)
    return decode_example(metadata.get("example", ""), "cpu" if parameter is None else parameter.device)


def _check_same_upgrade(model: nn.Module, metadata: dict[str, str], tensors: dict[str, Tensor], path: object) -> None:
    upgrade_state = get_upgrade_state(model)
    actual = (upgrade_state.name, json.dumps(upgrade_state.options, sort_keys=True), json.dumps(upgrade_state.sites))
    expected = (metadata["interpolator"], metadata["options"], metadata["sites"])
    state = model.state_dict()
    added = set(state) - set(upgrade_state.original_weights.names)
    mismatched = sorted(n for n, x in tensors.items() if n not in state or state[n].shape != x.shape)
    mismatched += sorted(added - set(tensors))
    if actual != expected or mismatched:
        raise ValueError(
            f"{path} belongs to another upgrade. File: {', '.join(expected)}; model: {', '.join(actual)}"
            + (f"; mismatched tensors: {', '.join(mismatched[:4])}." if mismatched else ".")
        )
