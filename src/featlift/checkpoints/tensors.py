"""Safetensors files of named tensors with metadata."""

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from featlift.checkpoints.atomic import write_atomic
from featlift.checkpoints.damage import explain_damage


def write_tensors(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> Path:
    """Write ``tensors`` and ``metadata`` to ``path`` atomically; returns the path.

    Tensors that share memory are written separately. Missing folders are created.
    """
    pointers, unshared = set(), {}
    for name, tensor in tensors.items():
        contiguous = tensor.detach().contiguous()
        pointer = contiguous.untyped_storage().data_ptr()
        unshared[name] = contiguous.clone() if contiguous.numel() > 0 and pointer in pointers else contiguous
        pointers.add(pointer)
    return write_atomic(path, lambda temporary: _save_file(unshared, temporary, dict(metadata or {})), durable=True)


def _save_file(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """Save with the errors of the file system as OSError; safetensors has a type of its own."""
    try:
        save_file(tensors, path, metadata)
    except SafetensorError as error:
        raise OSError(f"{path} cannot be written: {error}") from error


def read_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors in ``path``, on the CPU, and the metadata.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If it is not a safetensors file or is damaged.
    """
    path = Path(path)
    metadata = read_metadata(path)
    with explain_damage(path, "Use another copy of the file."):
        return load_file(path), metadata


def read_metadata(path: str | Path) -> dict[str, str]:
    """Return only the metadata in ``path``; raises the same errors as `read_tensors`."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no file {path}; nothing is downloaded automatically.")
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or not a safetensors file: {error}") from error
