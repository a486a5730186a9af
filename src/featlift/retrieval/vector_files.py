"""Vectors of any encoder in files: NumPy arrays, FAISS indexes, LanceDB tables, and the names of their rows."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

FAISS_SUFFIXES = (".faiss", ".index")


def read_vectors(path: str | Path) -> Tensor:
    """Read float32 vectors ``[N, D]``, or ``[R, N, D]`` from an array of three dimensions.

    Args:
        path: ``.npy`` file; FAISS index (``.faiss`` or ``.index``) whose vectors can be reconstructed; LanceDB table (``TABLE.lance`` in
            the folder of its database) with a column of fixed-size vectors; or index folder of `featlift index`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds no vectors, or numbers that are not finite.
        ImportError: If FAISS or LanceDB is needed and not installed.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"There is no file {path}; give a .npy, .faiss or .lance file, or an index folder.")
    if path.suffix == ".npy":
        array = np.load(path, allow_pickle=False)
    elif path.suffix in FAISS_SUFFIXES:
        array = reconstruct_vectors(read_faiss_index(path), path)
    elif path.is_dir():
        array = _read_lance_vectors(path)
    else:
        raise ValueError(f"{path} is neither .npy, {', '.join(FAISS_SUFFIXES)}, .lance nor an index folder.")
    if array.ndim not in (2, 3) or not array.size or not np.issubdtype(array.dtype, np.number):
        raise ValueError(
            f"{path} holds an array {array.shape} of {array.dtype}; vectors are [N, D] or [R, N, D] numbers."
        )
    vectors = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
    if not bool(vectors.isfinite().all()):
        raise ValueError(f"{path} holds numbers that are not finite (NaN or infinite).")
    return vectors


def read_faiss_index(path: Path) -> Any:
    """Read a FAISS index file.

    Raises:
        ImportError: If FAISS is not installed.
        ValueError: If the file is no index.
    """
    try:
        import faiss
    except ImportError as error:
        raise ImportError("FAISS files need FAISS: pip install 'featlift[retrieval]'.") from error
    try:
        return faiss.read_index(str(path))
    except RuntimeError as error:
        raise ValueError(f"{path} is no readable FAISS index: {str(error).splitlines()[0]}") from error


def reconstruct_vectors(index: Any, path: Path) -> np.ndarray:
    """Return the vectors ``[N, D]`` of a FAISS index, as far as its compression keeps them.

    Raises:
        ValueError: If it is empty or does not support reconstruction.
    """
    try:
        return index.reconstruct_n(0, index.ntotal)
    except RuntimeError as error:
        raise ValueError(
            f"The vectors of {path} cannot be reconstructed ({type(index).__name__}); give the original vectors as .npy."
        ) from error


def _read_lance_vectors(path: Path) -> np.ndarray:
    try:
        import lancedb
    except ImportError as error:
        raise ImportError("LanceDB tables need LanceDB: pip install 'featlift[retrieval]'.") from error
    import pyarrow as pa

    table_file = path if path.suffix == ".lance" else path / "vectors.lance"
    if not table_file.exists():
        raise ValueError(f"{path} is no LanceDB table: give DATABASE/TABLE.lance, or the folder of featlift index.")
    table = lancedb.connect(table_file.parent).open_table(table_file.stem)
    columns = [field.name for field in table.schema if pa.types.is_fixed_size_list(field.type)]
    if len(columns) != 1:
        raise ValueError(f"{table_file} has {len(columns)} columns of fixed-size vectors; it needs one.")
    data = table.search().select(columns).limit(max(1, table.count_rows())).to_arrow()[columns[0]].combine_chunks()
    return data.flatten().to_numpy(zero_copy_only=False).reshape(len(data), -1)


def read_names(path: str | Path, count: int) -> list[str]:
    """Read the names of ``count`` vectors, one a line; without ``path`` they are numbers from 0.

    Raises:
        ValueError: If the number of lines differs.
    """
    if not path:
        return [str(row) for row in range(count)]
    names = Path(path).read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    if len(names) != count:
        raise ValueError(
            f"{path} has {len(names)} lines for {count} vectors; give one name per vector, in their order."
        )
    return names
