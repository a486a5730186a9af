"""Image search with descriptors: index a folder, and search the index, also with small query images."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from featlift.checkpoints import load
from featlift.checkpoints.json_io import write_json
from featlift.data.image_files import read_image_files
from featlift.data.image_io import MAX_PIXELS, list_images, read_image_crop
from featlift.device import resolve_device
from featlift.report.contact_sheet import build_query_results, write_contact_sheet
from featlift.retrieval.descriptors import Embedder, downscale_then_resize, embed_images
from featlift.retrieval.embedders import EmbedderConfig, build_embedder
from featlift.retrieval.embedding_cache import embedder_fingerprint
from featlift.retrieval.exact_search import SearchResults, exact_search
from featlift.retrieval.faiss_index import FaissIndex
from featlift.retrieval.generator import GENERATOR_FILE, super_resolve_descriptors
from featlift.retrieval.vector_store import VectorStore

EMBEDDER_FILE = "embedder.json"


def update_index(
    folder: Path,
    out: Path,
    embedder: EmbedderConfig | None = None,
    index_type: str = "",
    chunk_size: int = 256,
    device: str = "auto",
    skip_broken: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> tuple[VectorStore, int]:
    """Add descriptors of the new images under ``folder`` to the index ``out``, and remove deleted images from it.

    Each chunk is written before the next is computed: an interrupted call resumes at the last chunk. The arguments are those of
    :func:`featlift.commands.search.index`. Returns the index and the number of new images.
    """
    torch_device, config = resolve_device(device), load_embedder_config(out, embedder)
    F, dimension = build_embedder(config)
    store = VectorStore(out, dimension, fingerprint=embedder_fingerprint(F))
    F.to(torch_device)
    write_json(out / EMBEDDER_FILE, {**asdict(config), "folder": folder.resolve()})
    files = {str(file.relative_to(folder)): file for file in list_images(folder)}
    store.remove([name for name in store.names if name in store and name not in files])
    new = [name for name in files if name not in store]
    size_before = len(store)
    for start in range(0, len(new), chunk_size):
        chunk = {files[name]: name for name in new[start : start + chunk_size]}
        images = {
            chunk[file]: downscale_then_resize(image, 1, F.input_size)
            for file, image in read_image_files(chunk, skip_broken, max_pixels)
        }
        if images:
            store.add(list(images), embed_images(F, iter(images.values())))
    if index_type:
        FaissIndex(store, index_type).build()
    return store, len(store) - size_before


def load_embedder_config(folder: Path, config: EmbedderConfig | None) -> EmbedderConfig:
    """Return the embedder of an existing index, or ``config`` for a new index (default: "gist").

    Raises:
        ValueError: If the existing index has another embedder.
    """
    file = folder / EMBEDDER_FILE
    if not file.exists():
        return config or EmbedderConfig("gist", input_size=128)
    values = json.loads(file.read_text())
    values.pop("folder")
    mean_std = values["mean_std"] and tuple(values["mean_std"])
    stored = EmbedderConfig(**{**values, "mean_std": mean_std})
    if config not in (None, stored):
        raise ValueError(f"The index {folder} has {stored}, not {config}; omit the embedder, or use another folder.")
    return stored


def search_images(
    index: Path, queries: Sequence[Path], generator: str = "", k: int = 8, index_type: str = "", device: str = "auto"
) -> dict[str, SearchResults]:
    """Search the index with the "raw" descriptors of ``queries`` and, with ``generator``, with the "super-resolved" ones.

    The arguments are those of :func:`featlift.commands.search.search`.

    Raises:
        FileNotFoundError: If the index, generator or a query does not exist.
    """
    if not (index / EMBEDDER_FILE).exists():
        raise FileNotFoundError(
            f"{index} is not an index: it has no {EMBEDDER_FILE}. Create one: featlift index IMAGES --out {index}"
        )
    F, dimension = build_embedder(load_embedder_config(index, None))
    store = VectorStore(index, dimension, fingerprint=embedder_fingerprint(F))
    raw, ratio = embed_queries(F.to(resolve_device(device)), queries)
    descriptors = {"raw": raw}
    if generator:
        G = load(find_generator_file(generator)).eval()
        descriptors["super-resolved"] = super_resolve_descriptors(G, raw, ratio)
    return {name: search_store(store, vectors, k, index_type) for name, vectors in descriptors.items()}


def embed_queries(embedder: Embedder, files: Sequence[Path]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return descriptors ``[Q, D]`` of the images, and the ratios ``[Q]`` ≥ 1 of the embedder's input size to their short sides."""
    images = [read_image_crop(file) for file in files]
    ratio = torch.tensor([max(1.0, embedder.input_size / min(image.shape[1:])) for image in images])
    return embed_images(embedder, (downscale_then_resize(image, 1, embedder.input_size) for image in images)), ratio


def find_generator_file(generator: str) -> Path:
    """Return ``generator`` if it is a file, else the generator file of the run folder ``generator``.

    Raises:
        FileNotFoundError: If ``generator`` is neither.
    """
    for file in (Path(generator), Path(generator) / GENERATOR_FILE):
        if file.is_file():
            return file
    raise FileNotFoundError(
        f"'{generator}' is neither a generator file nor a finished run; train one with featlift train fsr-gan."
    )


def search_store(store: VectorStore, queries: torch.Tensor, k: int, index_type: str) -> SearchResults:
    """Search the FAISS index of ``index_type``, or exactly if it is empty."""
    return FaissIndex(store, index_type).search(queries, k) if index_type else exact_search(store, queries, k)


def write_search_page(page: Path, index: Path, queries: Sequence[Path], results: dict[str, SearchResults]) -> None:
    """Write the queries and their results as an HTML contact sheet."""
    gallery = Path(json.loads((index / EMBEDDER_FILE).read_text())["folder"])
    rows = [build_query_results(file, _rankings(results, q, gallery)) for q, file in enumerate(queries)]
    note = "Green: found only with the super-resolved query. Red: found only with the raw query."
    title = f"{len(queries)} searches in {index.name}"
    write_contact_sheet(page, rows, title, note if "super-resolved" in results else "")


def _rankings(results: dict[str, SearchResults], q: int, gallery: Path) -> dict[str, list[tuple[Path, float]]]:
    """Return the files and scores of query ``q`` by kind of descriptor."""
    return {
        key: [(gallery / name, score) for name, score in zip(r.names[q], r.scores[q].tolist(), strict=True)]
        for key, r in results.items()
    }


def print_search_results(queries: Sequence[Path], results: dict[str, SearchResults]) -> None:
    """Print the three best results of every query."""
    for q, file in enumerate(queries):
        print(f"{file}: " + " | ".join(f"{name}: {', '.join(r.names[q][:3])}" for name, r in results.items()))
