"""Super-resolution networks in files that say how to build them again."""

import json
from collections.abc import Mapping
from pathlib import Path

from torch import nn

from featlift.checkpoints import read_tensors, write_tensors
from featlift.image_sr import super_resolver

NETWORK_FILE = "super_resolver.safetensors"


def save_super_resolver(network: nn.Module, name: str, options: Mapping[str, float], folder: Path) -> Path:
    """Write ``network``, which is ``super_resolver(name, scale, **options)``, into ``folder``; the file is whole or not there."""
    described = {"name": name, "scale": str(network.scale), "options": json.dumps(dict(options))}
    return write_tensors(folder / NETWORK_FILE, network.state_dict(), described)


def load_super_resolver(path: str | Path) -> nn.Module:
    """The network of a run folder, or of a file that :func:`save_super_resolver` wrote, in evaluation mode.

    Raises:
        FileNotFoundError: if there is no such run or file.
        ValueError: if the file is something else.
    """
    path = Path(path)
    tensors, described = read_tensors(path / NETWORK_FILE if path.is_dir() else path)
    if not {"name", "scale", "options"} <= set(described):
        raise ValueError(f"'{path}' is no super-resolver of FeatLift. Name a run folder or its {NETWORK_FILE}.")
    network = super_resolver(described["name"], int(described["scale"]), **json.loads(described["options"]))
    network.load_state_dict(tensors)
    return network.eval()
