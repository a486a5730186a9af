"""``featlift index`` and ``featlift search``: image search, also with small query images."""

from pathlib import Path

from featlift.data.image_io import MAX_PIXELS
from featlift.deployment.image_search import print_search_results, search_images, update_index, write_search_page
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


def search(
    index: str,
    queries: list[str],
    generator: str = "",
    k: int = 8,
    index_type: str = "",
    where: str = "",
    out: str = "",
    device: str = "auto",
) -> dict[str, SearchResults]:
    """Find the ``k`` images of an index nearest to each query, with raw and, given ``generator``, super-resolved query descriptors.

    Args:
        index: Folder of the index.
        queries: Query image files.
        generator: FSR-GAN run folder or generator file. The ratio of a query is the embedder's input size divided by its short side.
        k: Number of results per query.
        index_type: Type of the FAISS index to search; empty searches exactly.
        where: Condition in SQL on the file's path in the index, such as "name LIKE 'cam0/%'"; only such images are found.
        out: HTML file of the contact sheet; default: ``contact_sheet.html`` in the index.
        device: Device of the embedder: "auto" (a GPU if available), "cpu" or "cuda".

    Returns:
        Results of the "raw" and, with ``generator``, of the "super-resolved" queries.

    Raises:
        FileNotFoundError: If the index, generator or a query does not exist.
    """
    folder, files = Path(index), [Path(query) for query in queries]
    results = search_images(folder, files, generator, k, index_type, where, device)
    page = Path(out) if out else folder / "contact_sheet.html"
    write_search_page(page, folder, files, results)
    print_search_results(files, results)
    print(page)
    return results
