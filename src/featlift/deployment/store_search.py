"""Search of a vector store with the options of `featlift search`."""

import torch

from featlift.deployment.search_options import SearchOptions
from featlift.retrieval.exact_search import SearchResults, exact_search
from featlift.retrieval.faiss_index import FaissIndex
from featlift.retrieval.query_expansion import expand_queries
from featlift.retrieval.vector_store import VectorStore


def search_expanded(store: VectorStore, queries: torch.Tensor, k: int, options: SearchOptions) -> SearchResults:
    """:func:`search_store`, and again with the queries expanded by the first ``options.expand`` results."""
    if options.expand:
        found = search_store(store, queries, options.expand, options.index_type, options.where)
        vectors = store.take(found.rows.flatten().tolist()).view(*found.rows.shape, -1)
        queries = expand_queries(queries, vectors, found.scores)
    return search_store(store, queries, k, options.index_type, options.where)


def search_store(store: VectorStore, queries: torch.Tensor, k: int, index_type: str, where: str = "") -> SearchResults:
    """Search the FAISS index of ``index_type``, or exactly if it is empty, then only among the vectors with ``where``.

    Raises:
        ValueError: If both are given.
    """
    if index_type and where:
        raise ValueError("A condition (--where) needs exact search; leave out --index-type.")
    return (
        FaissIndex(store, index_type).search(queries, k) if index_type else exact_search(store, queries, k, where=where)
    )
