"""``featlift index``, ``featlift search``: find pictures by a picture, also by a tiny one."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from featlift.checkpoints import load
from featlift.data.landmarks import list_collection_images, read_image_crop
from featlift.experiments.retrieval_evaluation import GENERATOR_FILE
from featlift.gallery import EmbedderConfig, build_embedder
from featlift.report.contact_sheet import build_query_results, write_contact_sheet
from featlift.retrieval.cache import embedder_fingerprint
from featlift.retrieval.descriptors import Embedder, downscale_then_resize, embed_images
from featlift.retrieval.exact_search import SearchResults
from featlift.retrieval.exact_search import exact_search as exact
from featlift.retrieval.faiss_index import FaissIndex
from featlift.retrieval.generator import super_resolve_descriptors
from featlift.retrieval.vector_store import VectorStore, write_atomically


def index(
    folder: str, out: str = "index", embedder: EmbedderConfig | None = None, index_type: str = "", chunk_size: int = 256
) -> VectorStore:
    """Describe every picture under ``folder`` that ``out`` does not hold yet, and forget those that are gone.

    Each piece is on disk before the next is begun: an interrupted call goes on where it stopped.

    Args:
        folder: pictures; their paths in it are their names.
        out: the index's folder.
        embedder: the describer; an index that is there keeps its own.
        index_type: also build a FAISS index of this kind: "flat", "ivf-flat", "ivf-pq", "ivf-rabitq", "hnsw".
        chunk_size: pictures described before anything is written.
    """
    chosen = load_embedder_config(Path(out), embedder)
    F, dimension = build_embedder(chosen)
    store = VectorStore(Path(out), dimension, fingerprint=embedder_fingerprint(F))
    write_atomically(
        Path(out) / "encoding.json", json.dumps({**asdict(chosen), "folder": str(Path(folder).resolve())}).encode()
    )
    files = {str(file.relative_to(folder)): file for file in list_collection_images(Path(folder))}
    store.remove([name for name in store.names if name in store and name not in files])
    new = [name for name in files if name not in store]
    for start in range(0, len(new), chunk_size):
        part = new[start : start + chunk_size]
        store.add(
            part,
            embed_images(F, (downscale_then_resize(read_image_crop(files[name]), 1, F.input_size) for name in part)),
        )
    if index_type:
        FaissIndex(store, index_type).build()
    print(f"{out}: {len(store)} pictures, {len(new)} of them new")
    return store


def load_embedder_config(folder: Path, config: EmbedderConfig | None) -> EmbedderConfig:
    """The encoding that an index was made with, or ``config`` for a new one ("gist" where none is given).

    Raises:
        ValueError: if the index is there and was made with another.
    """
    file = folder / "encoding.json"
    if not file.exists():
        return config or EmbedderConfig("gist", input_size=128)
    known = json.loads(file.read_text())
    known.pop("folder")
    statistics = known["statistics"] and tuple(known["statistics"])
    there = EmbedderConfig(**{**known, "statistics": statistics})
    if config not in (None, there):
        raise ValueError(
            f"{folder} was made with {there}, not with {config}; leave the encoding out, or take another folder."
        )
    return there


def search(
    index: str, queries: list[str], generator: str = "", k: int = 8, index_type: str = "", out: str = ""
) -> dict[str, SearchResults]:
    """The ``k`` pictures of an index nearest to each query, plainly and, with ``generator``, after lifting the queries.

    Args:
        index: folder that :func:`index` made.
        queries: picture files.
        generator: run of FSR-GAN, or the file of a generator. Ratios are taken from the pictures' own size: how many times
            their short side is smaller than the encoder's input.
        k: how many.
        index_type: search in the FAISS index of this kind; exactly if empty.
        out: contact sheet; ``contact_sheet.html`` in the index if empty.

    Raises:
        FileNotFoundError: if there is no such index, generator or query.
    """
    folder, files = Path(index), [Path(query) for query in queries]
    if not (folder / "encoding.json").exists():
        raise FileNotFoundError(
            f"{folder} is no index: it has no encoding.json. Make one: featlift index FOLDER {folder}"
        )
    F, dimension = build_embedder(load_embedder_config(folder, None))
    store = VectorStore(folder, dimension, fingerprint=embedder_fingerprint(F))
    raw, ratio = embed_queries(F, files)
    asked = {"raw": raw}
    if generator:
        asked["lifted"] = super_resolve_descriptors(load(find_generator_file(generator)).eval(), raw, ratio)
    found = {name: search_store(store, vectors, k, index_type) for name, vectors in asked.items()}
    page = Path(out) if out else folder / "contact_sheet.html"
    gallery = Path(json.loads((folder / "encoding.json").read_text())["folder"])
    sheets = [_build_query_results(files, q, found, gallery) for q in range(len(files))]
    note = "Green: found only after lifting the query. Red: found only before." if generator else ""
    write_contact_sheet(page, sheets, f"{len(files)} searches in {folder.name}", note)
    for q, file in enumerate(files):
        print(f"{file}: " + " | ".join(f"{name}: {', '.join(f.names[q][:3])}" for name, f in found.items()))
    print(page)
    return found


def embed_queries(embedder: Embedder, files: Sequence[Path]) -> tuple[torch.Tensor, torch.Tensor]:
    """Descriptors ``[Q, D]`` of the pictures as they are, and how many times smaller than F's input each is, ``[Q]`` ≥
    1.
    """
    images = [read_image_crop(file) for file in files]
    ratio = torch.tensor([max(1.0, embedder.input_size / min(image.shape[1:])) for image in images])
    return embed_images(embedder, (downscale_then_resize(image, 1, embedder.input_size) for image in images)), ratio


def find_generator_file(generator: str) -> Path:
    """``generator`` itself, or the generator in the run ``generator``.

    Raises:
        FileNotFoundError: if it is neither.
    """
    for file in (Path(generator), Path(generator) / GENERATOR_FILE):
        if file.is_file():
            return file
    raise FileNotFoundError(
        f"'{generator}' is no generator's file and no run that has finished: featlift train fsr-gan makes one."
    )


def search_store(store: VectorStore, queries: torch.Tensor, k: int, index_type: str) -> SearchResults:
    """Exact search, or by the FAISS index of ``index_type``."""
    return FaissIndex(store, index_type).search(queries, k) if index_type else exact(store, queries, k)


def _build_query_results(files: Sequence[Path], q: int, results: dict[str, SearchResults], gallery: Path):
    rankings = {
        n: [(gallery / name, s) for name, s in zip(f.names[q], f.scores[q].tolist(), strict=True)]
        for n, f in results.items()
    }
    return build_query_results(files[q], rankings)
