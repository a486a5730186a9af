"""Loading of trained super-resolution networks from run folders and files."""

from pathlib import Path

from torch import nn

from featlift.checkpoints import load

SUPER_RESOLVER_FILE = "super_resolver.safetensors"


def load_super_resolver(path: str | Path) -> nn.Module:
    """Load the network of a run folder or of a file written by :func:`featlift.checkpoints.save`, in evaluation mode.

    Raises:
        FileNotFoundError: If there is no such run or file.
        ValueError: If the file holds another kind of module.
    """
    path = Path(path)
    network = load(path / SUPER_RESOLVER_FILE if path.is_dir() else path)
    if not hasattr(network, "scale"):
        raise ValueError(
            f"'{path}' holds {type(network).__name__}, no super-resolver. Give a run folder or its {SUPER_RESOLVER_FILE}."
        )
    return network.eval()
