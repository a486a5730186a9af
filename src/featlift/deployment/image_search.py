"""Image search with descriptors: index a folder, and search the index, also with small query images."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from featlift.checkpoints import load
from featlift.checkpoints.atomic import remove_temporary_files
from featlift.checkpoints.damage import read_json
from featlift.checkpoints.folder_lock import FolderLock
from featlift.data.image_io import (
    MAX_PIXELS,
    ImageReadError,
    list_images,
    read_image,
    read_image_sizes,
    read_reduced_image,
)
from featlift.deployment.search_options import SearchOptions
from featlift.deployment.store_search import search_expanded
from featlift.device import resolve_device
from featlift.report.contact_sheet import build_query_results, write_contact_sheet
from featlift.retrieval.descriptors import Embedder, downscale_then_resize, embed_images
from featlift.retrieval.embedders import EmbedderConfig
from featlift.retrieval.embedding_cache import embedder_fingerprint, image_key
from featlift.retrieval.exact_search import SearchResults
from featlift.retrieval.faiss_index import FaissIndex
from featlift.retrieval.generator import GENERATOR_FILE, query_ratios, super_resolve_descriptors
from featlift.retrieval.index_embedder import (
    EMBEDDER_FILE,
    load_embedder_config,
    load_index_embedder,
    save_index_embedder,
)
from featlift.retrieval.vector_store import VectorStore

PLAIN_SEARCH = SearchOptions()


@dataclass
class IndexUpdate:
    """What a call of `update_index` changed: numbers of images, and the unreadable ones with the reasons."""

    store: VectorStore
    num_new: int = 0
    num_changed: int = 0
    num_removed: int = 0
    skipped: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        counts = {"new": self.num_new, "changed": self.num_changed, "removed": self.num_removed}
        words = [f"{len(self.store)} images", *(f"{n} {word}" for word, n in counts.items() if n)]
        lines = [", ".join([*words, f"{len(self.skipped)} skipped"] if self.skipped else words)]
        return "\n  ".join([*lines, *(f"{name}: {reason}" for name, reason in self.skipped.items())])


def update_index(
    folder: Path,
    out: Path,
    embedder: EmbedderConfig | None = None,
    index_type: str = "",
    chunk_size: int = 256,
    device: str = "auto",
    skip_broken: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> IndexUpdate:
    """Add descriptors of the new and changed images under ``folder`` to the index ``out``, and remove deleted images from it.

    Each chunk is written before the next is computed: an interrupted call resumes at the last chunk. The arguments are those of
    :func:`featlift.commands.search.index`.

    Raises:
        FolderLockedError: If another process writes into the index.
        ImageReadError: If an image is unreadable and ``skip_broken`` is False.
    """
    torch_device, config = resolve_device(device), load_embedder_config(out, embedder)
    files = {str(file.relative_to(folder)): file for file in list_images(folder)}
    F, dimension = load_index_embedder(out, embedder)
    with FolderLock(out):
        remove_temporary_files(out)
        store = VectorStore(out, dimension, fingerprint=embedder_fingerprint(F))
        F.to(torch_device)
        save_index_embedder(out, config, F, folder)
        update = _embed_files(store, F, files, chunk_size, skip_broken, max_pixels)
        gone = [name for name in store.names if name not in files or name in update.skipped]
        update.num_removed = sum(name not in files for name in gone)
        store.remove(gone)
        store.compact()
        if index_type:
            FaissIndex(store, index_type).build()
    return update


def _embed_files(
    store: VectorStore,
    embedder: Embedder,
    files: Mapping[str, Path],
    chunk_size: int,
    skip_broken: bool,
    max_pixels: int,
) -> IndexUpdate:
    """Add the descriptors of the ``files`` by name that ``store`` lacks, or has of another content."""
    update, known = IndexUpdate(store), store.contents()
    names = [name for name, file in files.items() if name not in known or _has_changed(file, known[name])]
    for start in range(0, len(names), chunk_size):
        read: dict[str, str] = {}
        chunk = {name: files[name] for name in names[start : start + chunk_size]}
        unreadable = update.skipped if skip_broken else None
        images = _read_images(chunk, embedder, max_pixels, read, unreadable)
        vectors = embed_images(embedder, images)
        if read:
            store.add(list(read), vectors, list(read.values()))
        update.num_changed += sum(name in known for name in read)
        update.num_new += sum(name not in known for name in read)
    return update


def _read_images(
    files: Mapping[str, Path], embedder: Embedder, max_pixels: int, read: dict[str, str], skipped: dict[str, str] | None
) -> Iterator[torch.Tensor]:
    """Yield the images; note the content of each in ``read``, and unreadable ones in ``skipped`` if it is given."""
    for name, file in files.items():
        try:
            content, image = _describe_content(file), _read_at_least(file, embedder, embedder.input_size, max_pixels)
        except ImageReadError as error:
            if skipped is None:
                raise ImageReadError(f"{error} (--skip-broken skips unreadable images)") from error
            skipped[name] = str(error)
            continue
        read[name] = content
        yield downscale_then_resize(image, 1, embedder.input_size)


def _read_at_least(file: Path, embedder: Embedder, side: int, max_pixels: int) -> torch.Tensor:
    """Read an image to be resized to ``side`` pixels, at a reduced size if the embedder's images are decoded so."""
    return (
        read_reduced_image(file, (side, side), max_pixels)
        if embedder.fast_decode
        else read_image(file, None, max_pixels)
    )


def _describe_content(file: Path) -> str:
    """Return size, time of the last change and checksum of ``file``."""
    status = file.stat()
    return f"{status.st_size} {status.st_mtime_ns} {image_key(file)}"


def _has_changed(file: Path, content: str) -> bool:
    """Whether ``file`` has another content; its checksum is only computed if its size or time has changed."""
    status = file.stat()
    if content.startswith(f"{status.st_size} {status.st_mtime_ns} "):
        return False
    return content.rpartition(" ")[2] != image_key(file)


def search_images(
    index: Path,
    queries: Sequence[Path],
    generator: str = "",
    k: int = 8,
    options: SearchOptions = PLAIN_SEARCH,
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
    F, dimension = load_index_embedder(index, None)
    store = VectorStore(index, dimension, fingerprint=embedder_fingerprint(F))
    raw, short_sides = embed_queries(F.to(resolve_device(options.device)), queries, options.scales, options.max_pixels)
    descriptors = {"raw": raw}
    if generator:
        G = load(find_generator_file(generator)).eval()
        descriptors["super-resolved"] = super_resolve_descriptors(G, raw, query_ratios(G, short_sides, F.input_size))
    return {name: search_expanded(store, vectors, k, options) for name, vectors in descriptors.items()}


def embed_queries(
    embedder: Embedder, files: Sequence[Path], scales: Sequence[float] = (1.0,), max_pixels: int = MAX_PIXELS
) -> tuple[torch.Tensor, list[int]]:
    """Return descriptors ``[Q, D]`` of the images, averaged over ``scales`` of the input size, and their short sides in pixels.

    Raises:
        ImageReadError: If an image cannot be read, or has more than ``max_pixels`` pixels.
    """
    sides, descriptors = [round(scale * embedder.input_size) for scale in scales], []
    images = [_read_at_least(file, embedder, max(sides), max_pixels) for file in files]
    for side in sides:
        descriptors.append(embed_images(embedder, (downscale_then_resize(image, 1, side) for image in images)))
    mean = torch.stack(descriptors).mean(dim=0) if len(descriptors) > 1 else descriptors[0]
    return torch.nn.functional.normalize(mean, dim=1), [min(read_image_sizes(file, max_pixels)[0]) for file in files]


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


def write_search_page(page: Path, index: Path, queries: Sequence[Path], results: dict[str, SearchResults]) -> None:
    """Write the queries and their results as an HTML contact sheet."""
    gallery = Path(read_json(index / EMBEDDER_FILE)["folder"])
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
