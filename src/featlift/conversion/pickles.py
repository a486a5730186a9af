"""Safe reader for the pickled numpy arrays of Detectron2's model zoo; executes no code of the file."""

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from featlift.checkpoints.array_pickle import ArrayUnpickler


def read_detectron2_pickle(path: str | Path) -> dict[str, Tensor]:
    """Read the tensors of a pickled model-zoo file (``{"model": {name: array}, …}``) to the CPU.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If it contains objects other than arrays, numbers and text (rejected before execution), or no arrays.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}; nothing is downloaded automatically.")
    try:
        with path.open("rb") as file:
            content = ArrayUnpickler(file, encoding="latin1").load()
    except (pickle.UnpicklingError, EOFError, AttributeError, ImportError, IndexError) as error:
        raise ValueError(
            f"{path} was rejected: {error}. Reading a pickle can execute any code, so only arrays, numbers and text are allowed. "
            "If you trust its source, load it yourself and save its arrays with safetensors."
        ) from error
    model = content.get("model", content) if isinstance(content, Mapping) else {}
    arrays = {str(name): value for name, value in model.items() if getattr(value, "dtype", None) is not None}
    if not arrays or any(value.dtype.kind not in "fiu" for value in arrays.values()):
        raise ValueError(f"{path} holds no named arrays of numbers; expected {{'model': {{name: array}}, …}}.")
    return {name: torch.tensor(value) for name, value in arrays.items()}
