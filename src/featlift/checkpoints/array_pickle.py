"""Pickles of plain data and NumPy arrays, read without executing code of the file."""

import pickle
from typing import Any

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
    """Unpickler restricted to NumPy arrays, numbers, text, lists and dictionaries; other types could execute code."""

    def find_class(self, module: str, name: str) -> Any:
        """Return the class ``module.name``. Raises ``pickle.UnpicklingError`` unless it is in :data:`ALLOWED_GLOBALS`."""
        if (module, name) not in ALLOWED_GLOBALS:
            raise pickle.UnpicklingError(f"it refers to {module}.{name}")
        return super().find_class(module, name)
