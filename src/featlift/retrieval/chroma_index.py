"""Distributed gallery: a sharded index of unit vectors on Chroma servers, accessed over HTTP.

Chroma (https://www.trychroma.com, Apache-2.0) is a vector database. Each server runs ``pip install chromadb`` and
``chroma run --path vectors --host 0.0.0.0``; the client has no additional dependency. A gallery too large for one machine is sharded over
several; each shard is searched, and the results are merged. Super-resolution is done by the client: the query vector is
``super_resolve_descriptors(G, F(query))``, so an existing gallery need not be embedded again.
"""

import json
import zlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from torch import Tensor

from featlift.retrieval.vector_store import VectorStore

COLLECTIONS_PATH = "/api/v2/tenants/default_tenant/databases/default_database/collections"


class ChromaResults(NamedTuple):
    """Search results for Q queries, best first: ``names[q][k]`` and cosines ``scores[q][k]``."""

    names: list[list[str]]
    scores: list[list[float]]


class ChromaIndex:
    """Named unit vectors ``[N, D]``, sharded over one collection on each of several Chroma servers; any number of clients may search.

    Args:
        servers: Addresses, such as ``["http://10.0.0.5:8000"]``. The shard of a name depends on their number and order, which must not
            change after vectors have been added.
        collection: Name of the collection: 3 to 512 letters, digits, ``.``, ``_``, ``-``.
        dimension: D.
        fingerprint: Fingerprint of the embedder; a collection with another fingerprint is rejected.
        ef_search: Number of candidates in the HNSW search of a server; a higher value raises recall and latency.

    Raises:
        ConnectionError: If a server does not respond.
        ValueError: If there are no servers, or a collection has another dimension or fingerprint.
    """

    def __init__(
        self, servers: Sequence[str], collection: str, dimension: int, fingerprint: str = "", ef_search: int = 200
    ):
        if not servers:
            raise ValueError("No servers; give at least one address, such as 'http://localhost:8000'.")
        metadata = {"dimension": dimension, "fingerprint": fingerprint}
        configuration = {"hnsw": {"space": "ip", "ef_search": ef_search}}
        request = {"name": collection, "get_or_create": True, "metadata": metadata, "configuration": configuration}
        self.dimension = dimension
        self.shards = [_get_or_create_collection(server.rstrip("/"), request) for server in servers]

    def __len__(self) -> int:
        """Number of vectors on all servers."""
        return sum(self._request_shards("GET", "count", [None] * len(self.shards)))

    def add_store(self, store: VectorStore, batch_size: int = 2000) -> None:
        """Add all vectors of ``store``, ``batch_size`` at a time."""
        rows = [row for row in range(store.num_rows) if row not in store.removed]
        for start in range(0, len(rows), batch_size):
            batch = rows[start : start + batch_size]
            self.add([store.names[row] for row in batch], store.take(batch))

    def add(self, names: Sequence[str], vectors: Tensor) -> None:
        """Add ``vectors [n, D]``; the vector of an existing name is replaced.

        Raises:
            ValueError: If the shape of ``vectors`` is not ``[len(names), D]``.
        """
        if vectors.shape != (len(names), self.dimension):
            raise ValueError(
                f"{len(names)} names for vectors of shape {tuple(vectors.shape)}, not [n, {self.dimension}]."
            )
        by_name = dict(zip(names, vectors.tolist(), strict=True))
        shard_names = self._split_by_shard(by_name)
        bodies = [{"ids": ids, "embeddings": [by_name[name] for name in ids]} if ids else None for ids in shard_names]
        self._request_shards("POST", "upsert", bodies)

    def remove(self, names: Iterable[str]) -> None:
        """Remove the vectors of ``names``; unknown names are ignored."""
        self._request_shards("POST", "delete", [{"ids": ids} if ids else None for ids in self._split_by_shard(names)])

    def search(self, queries: Tensor, k: int) -> ChromaResults:
        """Return the approximate ``k`` nearest neighbors of each unit vector of ``queries [Q, D]``; servers are searched in parallel."""
        body = {"query_embeddings": queries.tolist(), "n_results": k, "include": ["distances"]}
        shard_results = self._request_shards("POST", "query", [body] * len(self.shards))
        merged = [
            _merge_top_k([(result["ids"][q], result["distances"][q]) for result in shard_results], k)
            for q in range(len(queries))
        ]
        return ChromaResults(
            [[name for _, name in row] for row in merged], [[1 - distance for distance, _ in row] for row in merged]
        )

    def _split_by_shard(self, names: Iterable[str]) -> list[list[str]]:
        shard_names: list[list[str]] = [[] for _ in self.shards]
        for name in names:
            shard_names[zlib.crc32(name.encode()) % len(shard_names)].append(name)
        return shard_names

    def _request_shards(self, method: str, endpoint: str, bodies: Sequence[Any]) -> list[Any]:
        """Send a request to every shard and return the responses; shards without a POST body are skipped."""
        requests = [
            (shard, body)
            for shard, body in zip(self.shards, bodies, strict=True)
            if method == "GET" or body is not None
        ]
        with ThreadPoolExecutor(max(1, len(requests))) as pool:
            return list(pool.map(lambda pair: _request_json(method, f"{pair[0]}/{endpoint}", pair[1]), requests))


def _merge_top_k(shard_results: Sequence[tuple[list[str], list[float]]], k: int) -> list[tuple[float, str]]:
    return sorted(
        (distance, name) for names, distances in shard_results for name, distance in zip(names, distances, strict=True)
    )[:k]


def _get_or_create_collection(server: str, request: dict[str, Any]) -> str:
    """Return the URL of the collection on ``server``; it is created if it does not exist."""
    collection, metadata = _request_json("POST", server + COLLECTIONS_PATH, request), request["metadata"]
    if collection["metadata"] != metadata:
        raise ValueError(
            f"'{request['name']}' on {server} holds {collection['metadata']}, not {metadata}. "
            "Descriptors of different encoders cannot be compared; use another collection name."
        )
    return f"{server}{COLLECTIONS_PATH}/{collection['id']}"


def _request_json(method: str, url: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = Request(url, data, {"Content-Type": "application/json"}, method=method)
    try:
        with urlopen(request, timeout=60) as response:
            return json.loads(response.read() or b"null")
    except HTTPError as error:
        raise ValueError(f"{url} returned {error.code}: {error.read().decode(errors='replace')}") from error
    except URLError as error:
        hint = "Start a server on that machine: pip install chromadb, chroma run --path vectors --host 0.0.0.0"
        raise ConnectionError(f"{url} does not respond ({error.reason}). {hint}") from error
