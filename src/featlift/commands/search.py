"""``featlift index``, ``search`` and ``lift``: image search, also with small query images, and with vectors of any encoder."""

from pathlib import Path

from featlift.checkpoints.json_io import write_json
from featlift.data.image_io import MAX_PIXELS
from featlift.deployment.image_search import print_search_results, search_images, update_index, write_search_page
from featlift.deployment.search_options import SearchOptions
from featlift.deployment.vector_search import search_vector_index, super_resolve_vector_file
from featlift.retrieval.embedders import EmbedderConfig
from featlift.retrieval.exact_search import SearchResults
from featlift.retrieval.vector_store import VectorStore


def index(
    folder: str,
    out: str = "index",
    embedder: EmbedderConfig | None = None,
    index_type: str = "",
    chunk_size: int = 256,
    device: str = "auto",
    skip_broken: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> VectorStore:
    """Compute descriptors of the images under ``folder`` that are not in the index ``out`` or have changed, and remove deleted images.

    Each chunk is written before the next is computed: an interrupted call resumes at the last chunk. Needs LanceDB
    (``pip install 'featlift[retrieval]'``).

    Args:
        folder: Folder of images; their names in the index are their relative paths.
        out: Folder of the index.
        embedder: Embedder of a new index ("gist" at 128 px unless --embedder.encoder says otherwise); an existing index keeps its own.
        index_type: Type of an additional FAISS index: "flat", "ivf-flat", "ivf-pq", "ivf-rabitq" or "hnsw"; empty builds none.
        chunk_size: Number of images between writes.
        device: Device of the embedder: "auto" (a GPU if available), "cpu" or "cuda".
        skip_broken: Skip unreadable images and print them.
        max_pixels: Maximum number of pixels of an image.

    Raises:
        FolderLockedError: If another process writes into the index.
        ValueError: If an image is unreadable and ``skip_broken`` is False.
    """
    update = update_index(Path(folder), Path(out), embedder, index_type, chunk_size, device, skip_broken, max_pixels)
    print(f"{out}: {update}")
    return update.store


DEFAULT_SEARCH = SearchOptions()


def search(
    index: str,
    queries: list[str],
    generator: str = "",
    k: int = 8,
    out: str = "",
    options: SearchOptions = DEFAULT_SEARCH,
) -> dict[str, SearchResults]:
    """Find the ``k`` images of an index nearest to each query, with raw and, given ``generator``, super-resolved query descriptors.

    Args:
        index: Folder of the index, or a FAISS index file of any encoder.
        queries: Query image files; for a FAISS file, ``.npy`` files of query vectors ``[Q, D]``.
        generator: FSR-GAN run folder or generator file. The ratio of a query is the short side of the training images divided by its own.
        k: Number of results per query.
        out: HTML file of the contact sheet; default: ``contact_sheet.html`` in the index. For a FAISS file a JSON file of the results.
        options: Kind of search, condition, expansion, names and device.

    Returns:
        Results of the "raw" and, with ``generator``, of the "super-resolved" queries.

    Raises:
        FileNotFoundError: If the index, generator or a query does not exist.
        ValueError: If queries and index do not fit.
    """
    folder, files = Path(index), [Path(query) for query in queries]
    if folder.is_file():
        results = search_vector_index(folder, files, generator, k, options.names)
        page = Path(out) if out else folder.with_suffix(".results.json")
        write_json(
            page, {kind: {"names": found.names, "scores": found.scores.tolist()} for kind, found in results.items()}
        )
        files = [Path(f"query {number}") for number in range(len(results["raw"].names))]
    else:
        results = search_images(folder, files, generator, k, options)
        page = Path(out) if out else folder / "contact_sheet.html"
        write_search_page(page, folder, files, results)
    print_search_results(files, results)
    print(page)
    return results


def lift(vectors: str, generator: str, out: str = "super_resolved.npy", ratio: float = 0.0) -> None:
    """Super-resolve the vectors of low-resolution images, of any encoder, without the images.

    Args:
        vectors: ``.npy`` array ``[N, D]``, FAISS index file, LanceDB table (``DATABASE/TABLE.lance``) or index folder.
        generator: FSR-GAN run folder or generator file, trained with ``featlift train fsr-gan --vectors LOW.npy,HIGH.npy``.
        out: ``.npy`` file of the result, in the same order and with the same lengths.
        ratio: Downscaling factor per side of the images, for a generator conditioned on it.

    Raises:
        FileNotFoundError: If the vectors or the generator do not exist.
        ValueError: If they do not fit.
    """
    print(super_resolve_vector_file(vectors, generator, out, ratio))
