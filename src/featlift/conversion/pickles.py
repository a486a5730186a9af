"""Detectron2's model zoo: pickles of numpy arrays, read without running anything that is in them."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

ALLOWED_GLOBALS = {
    ("collections", "OrderedDict"),
    ("_codecs", "encode"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    *(
        (f"numpy.{core}.multiarray", name)
        for core in ("core", "_core")
        for name in ("_reconstruct", "scalar", "_frombuffer")
    ),
    *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
}


class ArrayUnpickler(pickle.Unpickler):
    """An unpickler that knows numpy's arrays and numbers, dictionaries, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        """The class behind a name in the file. Raises ``pickle.UnpicklingError`` for all but the few allowed."""
        if (module, name) not in ALLOWED_GLOBALS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return super().find_class(module, name)


def read_detectron2_pickle(path: str | Path) -> dict[str, Tensor]:
    """The named tensors of a pickled zoo file (``{"model": {name: array}, …}``), on the CPU.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it holds anything but arrays, numbers and text (it is refused before anything of it runs), or no arrays.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}; nothing is downloaded unasked.")
    try:
        with path.open("rb") as file:
            content = ArrayUnpickler(file, encoding="latin1").load()
    except (pickle.UnpicklingError, EOFError, AttributeError, ImportError, IndexError) as error:
        raise ValueError(
            f"{path} was refused: {error}. A pickle can run any code when it is read, so only arrays, numbers and text are. "
            "If you trust where it came from, load it yourself and save its arrays with safetensors."
        ) from error
    model = content.get("model", content) if isinstance(content, Mapping) else {}
    arrays = {str(name): value for name, value in model.items() if getattr(value, "dtype", None) is not None}
    if not arrays or any(value.dtype.kind not in "fiu" for value in arrays.values()):
        raise ValueError(f"{path} holds no named arrays of numbers; a zoo file is {{'model': {{name: array}}, …}}.")
    return {name: torch.tensor(value) for name, value in arrays.items()}
