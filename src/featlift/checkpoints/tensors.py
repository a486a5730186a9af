"""Named tensors in a safetensors file, with words beside them."""

import os
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor


def write_tensors(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> Path:
    """Write ``tensors`` and ``metadata`` (the metadata) to ``path``; the file is the old one or the new one, never half
    of either.

    Tensors that share memory are written out each; folders are made.
    """
    path, seen, apart = Path(path), set(), {}
    for name, tensor in tensors.items():
        plain = tensor.detach().contiguous()
        shared = plain.numel() > 0 and plain.untyped_storage().data_ptr() in seen
        apart[name] = plain.clone() if shared else plain
        seen.add(plain.untyped_storage().data_ptr())
    path.parent.mkdir(parents=True, exist_ok=True)
    writing = path.with_name(f".{path.name}.{os.getpid()}")
    save_file(apart, writing, dict(metadata or {}))
    writing.replace(path)
    return path


def read_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors in ``path``, on the CPU, and the words beside them.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no safetensors file, or a damaged one.
    """
    path = Path(path)
    words = read_metadata(path)
    return load_file(path), words


def read_metadata(path: str | Path) -> dict[str, str]:
    """The words in ``path`` alone; raises what `read_tensors` does."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no file {path}; nothing is downloaded unasked.")
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or no safetensors file: {error}") from error
