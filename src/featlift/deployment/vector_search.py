"""Super-resolution of the vectors that a user already has, and search of a FAISS index that FeatLift did not make."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from featlift.checkpoints import load
from featlift.checkpoints.atomic import write_atomic
from featlift.deployment.image_search import find_generator_file
from featlift.retrieval.exact_search import SearchResults
from featlift.retrieval.generator import super_resolve_descriptors
from featlift.retrieval.vector_files import read_faiss_index, read_names, read_vectors


def super_resolve_vectors(vectors: Tensor, generator: str, ratio: float = 0.0) -> Tensor:
    """Super-resolve ``vectors [N, D]`` of low-resolution images; each keeps its length, so that any metric can compare it.

    Args:
        vectors: Vectors of the generator's encoder.
        generator: FSR-GAN run folder or generator file.
        ratio: Downscaling factor per side of the images, for a generator that is conditioned on it; 0 if unknown.

    Raises:
        FileNotFoundError: If there is no such generator.
        ValueError: If the generator is of vectors of another dimension, or needs the ratio.
    """
    if vectors.ndim != 2:
        raise ValueError(f"Vectors of shape {tuple(vectors.shape)}; queries are [N, D].")
    G, lengths = load(find_generator_file(generator)).eval(), vectors.norm(dim=1, keepdim=True)
    ratios = torch.full((len(vectors),), ratio) if ratio else None
    try:
        return lengths * super_resolve_descriptors(G, vectors / lengths.clamp(min=1e-12), ratios)
    except RuntimeError as error:
        raise ValueError(
            f"The generator {generator} does not take vectors of {vectors.shape[1]} numbers: it was trained for another encoder."
        ) from error


def super_resolve_vector_file(source: str, generator: str, out: str, ratio: float = 0.0) -> Path:
    """Write the super-resolved vectors of ``source`` (see `featlift.retrieval.vector_files.read_vectors`) to the ``.npy`` file ``out``."""
    path = Path(out)
    if path.suffix != ".npy":
        raise ValueError(f"{out} is no .npy file; super-resolved vectors are written as NumPy arrays.")
    vectors = super_resolve_vectors(read_vectors(source), generator, ratio)

    def write(unfinished: Path) -> None:
        with unfinished.open("wb") as file:
            np.save(file, vectors.numpy())

    write_atomic(path, write)
    return path


def search_vector_index(
    index: Path, queries: Sequence[Path], generator: str = "", k: int = 8, names: str = ""
) -> dict[str, SearchResults]:
    """Search a FAISS index file, by its own metric, with "raw" query vectors and, with ``generator``, "super-resolved" ones.

    Args:
        index: FAISS index file; it is not changed.
        queries: Files of query vectors of the same encoder; their rows are joined.
        generator: FSR-GAN run folder or generator file.
        k: Number of results per query.
        names: Text file with one name per vector of the index; empty for row numbers (or the index's own ids).

    Raises:
        ValueError: If the dimensions differ, the names do not fit, or a query is no file of vectors.
    """
    faiss_index = read_faiss_index(index)
    vectors = torch.cat([read_vectors(query) for query in queries])
    if vectors.shape[-1] != faiss_index.d:
        raise ValueError(
            f"The queries have {vectors.shape[-1]} numbers, the vectors of {index} {faiss_index.d}; use one encoder."
        )
    row_names = read_names(names, faiss_index.ntotal)
    kinds = {"raw": vectors}
    if generator:
        kinds["super-resolved"] = super_resolve_vectors(vectors, generator)
    return {kind: _search(faiss_index, x, min(k, faiss_index.ntotal), row_names) for kind, x in kinds.items()}


def _search(faiss_index: object, vectors: Tensor, k: int, names: Sequence[str]) -> SearchResults:
    """Search; ids beyond the names (of an index with ids of its own) are their own names, and -1 (nothing found) is left out."""
    scores, rows = faiss_index.search(np.ascontiguousarray(vectors.numpy()), k)  # type: ignore[attr-defined]
    found: list[list[str]] = [
        [str(names[row]) if row < len(names) else str(row) for row in query_rows if row >= 0]
        for query_rows in rows.tolist()
    ]
    return SearchResults(found, torch.from_numpy(rows), torch.from_numpy(scores))
