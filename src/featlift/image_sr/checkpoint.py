"""Trained super-resolution networks in run folders and files."""

from pathlib import Path

from torch import nn

from featlift.checkpoints import load

SUPER_RESOLVER_FILE = "super_resolver.safetensors"


def load_super_resolver(path: str | Path) -> nn.Module:
    """The network of a run folder, or of a file that :func:`featlift.checkpoints.save` wrote, in evaluation mode.

    Raises:
        FileNotFoundError: if there is no such run or file.
        ValueError: if the file is something else.
    """
    path = Path(path)
    network = load(path / SUPER_RESOLVER_FILE if path.is_dir() else path)
    if not hasattr(network, "scale"):
        raise ValueError(
            f"'{path}' holds {type(network).__name__}, no super-resolver. Name a run folder or its {SUPER_RESOLVER_FILE}."
        )
    return network.eval()
