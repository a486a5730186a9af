"""The nearest images of an index to a query: with its own descriptor, and with the super-resolved one."""

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from featlift.checkpoints import load
from featlift.checkpoints.damage import read_json
from featlift.data.image_io import MAX_PIXELS, ImageReadError, read_image
from featlift.deployment.image_search import embed_queries, find_generator_file
from featlift.deployment.store_search import search_store
from featlift.device import resolve_device, synchronize_cuda
from featlift.report.annotated_crops import to_uint8
from featlift.retrieval.embedding_cache import embedder_fingerprint
from featlift.retrieval.generator import query_ratios, super_resolve_descriptors
from featlift.retrieval.index_embedder import EMBEDDER_FILE, load_index_embedder
from featlift.retrieval.vector_store import VectorStore

THUMBNAIL_SIZE = 256
"""Longest side of a shown result in pixels."""
RAW, SUPER_RESOLVED = "raw", "super-resolved"
T = TypeVar("T")


@dataclass(frozen=True)
class SearchView:
    """Results of a query.

    Attributes:
        images: Ranking → thumbnails ``[H, W, 3]`` with captions, best first; results that the other ranking lacks are marked "only here".
        table: Times as a Markdown table.
    """

    images: dict[str, list[tuple[NDArray[np.uint8], str]]]
    table: str


class SearchComparison:
    """An index of ``featlift index``, loaded once, and an optional generator of descriptors.

    Args:
        index: Folder of the index.
        generator: FSR-GAN run folder or generator file; empty for the raw ranking alone.
        device: Device of the embedder: "auto" (a GPU if available), "cpu" or "cuda".

    Raises:
        FileNotFoundError: If the index or the generator does not exist.
    """

    def __init__(self, index: str, generator: str = "", device: str = "auto") -> None:
        folder = Path(index)
        if not (folder / EMBEDDER_FILE).exists():
            raise FileNotFoundError(f"'{index}' is not an index. Create one: featlift index IMAGES --out {index}")
        self.embedder, dimension = load_index_embedder(folder, None)
        self.store = VectorStore(folder, dimension, fingerprint=embedder_fingerprint(self.embedder))
        self.embedder.to(resolve_device(device)).eval()
        self.generator = load(find_generator_file(generator)).eval() if generator else None
        self.gallery = Path(read_json(folder / EMBEDDER_FILE)["folder"])
        self.rankings = (RAW, SUPER_RESOLVED) if generator else (RAW,)

    def __call__(self, query: Path, k: int, max_pixels: int = MAX_PIXELS) -> SearchView:
        """Find the ``k`` nearest images to the image file ``query`` of at most ``max_pixels`` pixels."""
        (descriptor, short_sides), seconds = _time(lambda: embed_queries(self.embedder, [query], max_pixels=max_pixels))
        descriptors, times = {RAW: descriptor}, {RAW: seconds}
        if self.generator is not None:
            G, ratios = self.generator, query_ratios(self.generator, short_sides, self.embedder.input_size)
            improved, seconds = _time(lambda: super_resolve_descriptors(G, descriptor, ratios))
            descriptors[SUPER_RESOLVED], times[SUPER_RESOLVED] = improved, times[RAW] + seconds
        lines, found = ["| descriptor | ms to compute it | ms to search |", "|:--|--:|--:|"], {}
        for name, vectors in descriptors.items():
            results, seconds = _time(lambda vectors=vectors: search_store(self.store, vectors, k, ""))
            found[name] = dict(zip(results.names[0], results.scores[0].tolist(), strict=True))
            lines.append(f"| {name} | {1e3 * times[name]:.1f} | {1e3 * seconds:.1f} |")
        return SearchView(self._show(found), "\n".join(lines))

    def _show(self, found: Mapping[str, Mapping[str, float]]) -> dict[str, list[tuple[NDArray[np.uint8], str]]]:
        """Thumbnails and captions of each ranking."""
        others = {name: [other for key, other in found.items() if key != name] for name in found}
        return {
            name: [
                (
                    _thumbnail(self.gallery / file),
                    f"{file}: {score:.3f}"
                    + (", only here" if any(file not in other for other in others[name]) else ""),
                )
                for file, score in ranking.items()
            ]
            for name, ranking in found.items()
        }


def _time(call: Callable[[], T]) -> tuple[T, float]:
    """Result and seconds of a call."""
    synchronize_cuda()
    start = time.perf_counter()
    result = call()
    synchronize_cuda()
    return result, time.perf_counter() - start


def _thumbnail(file: Path) -> NDArray[np.uint8]:
    """Image of at most `THUMBNAIL_SIZE` pixels; a gray square for a file that was removed from the folder."""
    try:
        image = Image.fromarray(to_uint8(read_image(file, None, sys.maxsize)))
    except ImageReadError:
        return np.full((64, 64, 3), 128, dtype=np.uint8)
    image.thumbnail((THUMBNAIL_SIZE, THUMBNAIL_SIZE))
    return np.asarray(image)
