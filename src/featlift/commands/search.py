"""``featlift index`` and ``featlift search``: image search, also with small query images."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from featlift.checkpoints import load
from featlift.data.retrieval_readers import list_collection_images, read_image_crop
from featlift.papers.fsr_gan.evaluation import GENERATOR_FILE
from featlift.report.contact_sheet import build_query_results, write_contact_sheet
from featlift.retrieval.descriptors import Embedder, downscale_then_resize, embed_images
from featlift.retrieval.embedders import EmbedderConfig, build_embedder
from featlift.retrieval.embedding_cache import embedder_fingerprint
from featlift.retrieval.exact_search import SearchResults, exact_search
from featlift.retrieval.faiss_index import FaissIndex
from featlift.retrieval.generator import super_resolve_descriptors
from featlift.retrieval.vector_store import VectorStore, write_atomically

EMBEDDER_FILE = "embedder.json"


def index(
    folder: str, out: str = "index", embedder: EmbedderConfig | None = None, index_type: str = "", chunk_size: int = 256
) -> VectorStore:
    """Compute descriptors of the images under ``folder`` that are not in the index ``out``, and remove deleted images from it.

    Each chunk is written before the next is computed: an interrupted call resumes at the last chunk.

    Args:
        folder: Folder of images; their names in the index are their relative paths.
        out: Folder of the index.
        embedder: Embedder of a new index; an existing index keeps its own.
        index_type: Type of an additional FAISS index: "flat", "ivf-flat", "ivf-pq", "ivf-rabitq" or "hnsw"; empty builds none.
        chunk_size: Number of images between writes.
    """
    config = load_embedder_config(Path(out), embedder)
    F, dimension = build_embedder(config)
    store = VectorStore(Path(out), dimension, fingerprint=embedder_fingerprint(F))
    write_atomically(
        Path(out) / EMBEDDER_FILE, json.dumps({**asdict(config), "folder": str(Path(folder).resolve())}).encode()
    )
    files = {str(file.relative_to(folder)): file for file in list_collection_images(Path(folder))}
    store.remove([name for name in store.names if name in store and name not in files])
    new = [name for name in files if name not in store]
    for start in range(0, len(new), chunk_size):
        chunk = new[start : start + chunk_size]
        images = (downscale_then_resize(read_image_crop(files[name]), 1, F.input_size) for name in chunk)
        store.add(chunk, embed_images(F, images))
    if index_type:
        FaissIndex(store, index_type).build()
    print(f"{out}: {len(store)} images, {len(new)} of them new")
    return store


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


def search(
    index: str, queries: list[str], generator: str = "", k: int = 8, index_type: str = "", out: str = ""
) -> dict[str, SearchResults]:
    """Find the ``k`` images of an index nearest to each query, with raw and, given ``generator``, super-resolved query descriptors.

    Args:
        index: Folder of the index.
        queries: Query image files.
        generator: FSR-GAN run folder or generator file. The ratio of a query is the embedder's input size divided by its short side.
        k: Number of results per query.
        index_type: Type of the FAISS index to search; empty searches exactly.
        out: HTML file of the contact sheet; default: ``contact_sheet.html`` in the index.

    Returns:
        Results of the "raw" and, with ``generator``, of the "super-resolved" queries.

    Raises:
        FileNotFoundError: If the index, generator or a query does not exist.
    """
    folder, files = Path(index), [Path(query) for query in queries]
    if not (folder / EMBEDDER_FILE).exists():
        raise FileNotFoundError(
            f"{folder} is not an index: it has no {EMBEDDER_FILE}. Create one: featlift index FOLDER {folder}"
        )
    F, dimension = build_embedder(load_embedder_config(folder, None))
    store = VectorStore(folder, dimension, fingerprint=embedder_fingerprint(F))
    raw, ratio = embed_queries(F, files)
    descriptors = {"raw": raw}
    if generator:
        descriptors["super-resolved"] = super_resolve_descriptors(
            load(find_generator_file(generator)).eval(), raw, ratio
        )
    results = {name: search_store(store, vectors, k, index_type) for name, vectors in descriptors.items()}
    page = Path(out) if out else folder / "contact_sheet.html"
    gallery = Path(json.loads((folder / EMBEDDER_FILE).read_text())["folder"])
    query_results = [_build_query_results(files, q, results, gallery) for q in range(len(files))]
    note = "Green: found only with the super-resolved query. Red: found only with the raw query." if generator else ""
    write_contact_sheet(page, query_results, f"{len(files)} searches in {folder.name}", note)
    for q, file in enumerate(files):
        print(f"{file}: " + " | ".join(f"{name}: {', '.join(r.names[q][:3])}" for name, r in results.items()))
    print(page)
    return results


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


def _build_query_results(files: Sequence[Path], q: int, results: dict[str, SearchResults], gallery: Path):
    rankings = {
        key: [(gallery / name, score) for name, score in zip(r.names[q], r.scores[q].tolist(), strict=True)]
        for key, r in results.items()
    }
    return build_query_results(files[q], rankings)
