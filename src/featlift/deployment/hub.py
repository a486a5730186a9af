"""Networks on the Hugging Face Hub: detectors, parts such as interpolators, and upgrades, which are a difference to other weights."""

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from featlift.checkpoints import load, save
from featlift.checkpoints.hub import download_file, upload_files
from featlift.checkpoints.tensors import read_metadata, read_tensors
from featlift.detectors.checkpoint import DETECTOR_FILE, load_detector
from featlift.upgrading import is_upgraded, save_delta
from featlift.upgrading.delta import DELTA_FILE, READABLE_FORMATS
from featlift.upgrading.wrappers import unwrap_module

MODEL_FILE = "model.safetensors"
FILES = (DETECTOR_FILE, MODEL_FILE, DELTA_FILE)
"""Name of the file of a detector, of a part, and of an upgrade."""


def from_pretrained(name_or_path: str | Path, revision: str | None = None) -> nn.Module:
    """Load a detector or a part from a folder, or from a repository of the Hub (downloaded once, then cached).

    `featlift.Predictor` and the commands take the detector of a repository as ``"hub:OWNER/NAME"``, with its class names.

    Args:
        name_or_path: Folder that `push_to_hub` would upload or a run folder, or a repository ``"OWNER/NAME"``.
        revision: Branch, tag or commit of the repository; None is the default branch.

    Raises:
        FileNotFoundError: If there is no such folder or repository, or it has no file of FeatLift.
        ValueError: If it is an upgrade, which `featlift.load_delta` loads into the network that it belongs to.
    """
    folder = Path(name_or_path)
    if not folder.is_dir():
        return _load_file(download_file(str(name_or_path), FILES, revision), f"hub:{name_or_path}")
    found = next((folder / name for name in FILES if (folder / name).is_file()), None)
    if found is None:
        raise FileNotFoundError(f"{folder} has none of {', '.join(FILES)}.")
    return _load_file(found, str(found))


def _load_file(file: Path, name: str) -> nn.Module:
    kind = find_kind(file)
    if kind == DELTA_FILE:
        raise ValueError(
            f"'{name}' is an upgrade of another network: build that network and call load_delta(network, '{name}')."
        )
    return load_detector(file)[0] if kind == DETECTOR_FILE else load(file)


def find_kind(file: Path) -> str:
    """Return which of `FILES` the safetensors ``file`` is, by its metadata.

    Raises:
        ValueError: If it is none of them.
    """
    metadata = read_metadata(file)
    if "model" in metadata:
        return DETECTOR_FILE
    if metadata.get("format") in READABLE_FORMATS:
        return DELTA_FILE
    if {"class", "arguments"} <= metadata.keys():
        return MODEL_FILE
    raise ValueError(f"{file} is no file of FeatLift: it describes neither a detector, nor a part, nor an upgrade.")


def push_to_hub(source: nn.Module | str | Path, repo_id: str, private: bool = True) -> str:
    """Upload a network with a model card to the repository ``repo_id`` ("OWNER/NAME"), and return its URL.

    Uses the account of ``hf auth login``. A missing repository is created, by default as private.

    Args:
        source: A run folder or a file: detector, part, or the delta of an upgrade. Or a module: of an upgraded network, the upgrade
            is uploaded; of a part of FeatLift (interpolator, pyramid, super-resolution network, generator) the part.
        repo_id: Repository.
        private: Whether a new repository is private.

    Raises:
        FileNotFoundError: If ``source`` is a path without such a file.
        TypeError: If a module cannot be described by its class and arguments: give the run folder of a detector.
        ConnectionError: If the Hub cannot be reached.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        kind = export_for_hub(source, repo_id, folder)
        return upload_files(folder, repo_id, private, f"{kind.partition('.')[0]} by featlift")


def export_for_hub(source: nn.Module | str | Path, repo_id: str, folder: Path) -> str:
    """Write the file and the model card of ``source`` into ``folder``, as `push_to_hub` uploads them; return the file's name."""
    if isinstance(source, nn.Module):
        kind = DELTA_FILE if is_upgraded(unwrap_module(source)) else MODEL_FILE
        if kind == DELTA_FILE:
            save_delta(source, folder / kind)
        else:
            save(source, folder / kind)
    else:
        file = _find_file(Path(source))
        kind = find_kind(file)
        shutil.copyfile(file, folder / kind)
    (folder / "README.md").write_text(format_model_card(folder / kind, repo_id, _read_metrics(source)))
    return kind


def _find_file(path: Path) -> Path:
    candidates = [path, *(path / name for name in (*FILES, "super_resolver.safetensors", "G.safetensors"))]
    found = next((file for file in candidates if file.is_file()), None)
    if found is None:
        raise FileNotFoundError(f"'{path}' is neither a file nor a finished run with a network.")
    return found


def _read_metrics(source: nn.Module | str | Path) -> dict[str, Any]:
    """The metrics of boxes in ``result.json`` of a run folder; empty if there is none."""
    result = Path(source) / "result.json" if isinstance(source, str | Path) else None
    content = json.loads(result.read_text()) if result is not None and result.is_file() else {}
    return content.get("metrics", {}).get("boxes", {})


def format_model_card(file: Path, repo_id: str, metrics: Mapping[str, Any]) -> str:
    """Return the model card of a ``file`` of FeatLift: what it is, its size, its AP if it was measured, and how to load it."""
    tensors, metadata = read_tensors(file)
    kind = find_kind(file)
    number = sum(x.numel() for x in tensors.values())
    tags = {
        DETECTOR_FILE: "object-detection",
        DELTA_FILE: "feature-super-resolution",
        MODEL_FILE: "feature-super-resolution",
    }
    lines = ["---", "library_name: featlift", f"tags: [{tags[kind]}, featlift]", "---", "", f"# {repo_id}", ""]
    lines += [
        _DESCRIBE[kind](metadata, number),
        "",
        "```python",
        "import featlift",
        "",
        *_LOAD[kind](repo_id),
        "```",
        "",
    ]
    values = {name: metrics[name] for name in ("ap", "ap50", "ap_tiny", "ap_small") if metrics.get(name) is not None}
    if values:
        lines += ["| metric | value |", "|:--|--:|", *(f"| {k} | {100 * v:.1f} |" for k, v in values.items()), ""]
    return "\n".join(lines)


def _describe_detector(metadata: Mapping[str, str], number: int) -> str:
    model, classes = json.loads(metadata["model"]), json.loads(metadata["classes"])
    level = " with EFPN's extended level" if "extended_level" in metadata else ""
    return (
        f"Detector of FeatLift{level}: {model['detector']} on {model['backbone']}, {model['pyramid']} with {model['interpolator']} "
        f"upsampling, {number:,} stored values.\n\nClasses: {', '.join(classes)}."
    )


def _describe_part(metadata: Mapping[str, str], number: int) -> str:
    return f"`{metadata['class']}` of FeatLift, {number:,} stored values.\n\nArguments: `{metadata['arguments']}`"


def _describe_delta(metadata: Mapping[str, str], number: int) -> str:
    return (
        f"Upgrade of a network by FeatLift: {metadata['interpolator']} at {metadata['sites']}, {number:,} added or changed values. The "
        "network itself is not in this repository; load its weights first."
    )


_DESCRIBE = {DETECTOR_FILE: _describe_detector, MODEL_FILE: _describe_part, DELTA_FILE: _describe_delta}
_LOAD = {
    DETECTOR_FILE: lambda repo_id: [
        f'predictor = featlift.Predictor("hub:{repo_id}")',
        'prediction = predictor("image.jpg")',
    ],
    MODEL_FILE: lambda repo_id: [f'module = featlift.from_pretrained("{repo_id}")'],
    DELTA_FILE: lambda repo_id: [
        "network = ...  # the network that was upgraded, with its original weights",
        f'featlift.load_delta(network, "hub:{repo_id}")',
    ],
}
