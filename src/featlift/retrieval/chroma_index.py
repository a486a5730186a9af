"""Distributed gallery: a sharded index of unit vectors on Chroma servers, accessed over HTTP.

Chroma (https://www.trychroma.com, Apache-2.0) is a vector database. Each server runs ``pip install chromadb`` and
``chroma run --path vectors``, behind a proxy that encrypts and checks the token; the client has no additional
dependency. A gallery too large for one machine is sharded over
several; each shard is searched, and the results are merged. Super-resolution is done by the client: the query vector is
``super_resolve_descriptors(G, F(query))``, so an existing gallery need not be embedded again.
"""

import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPException
from typing import Any, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from torch import Tensor

from featlift.retrieval.unit_vectors import check_unit_vectors
from featlift.retrieval.vector_store import VectorStore

COLLECTIONS_PATH = "/api/v2/tenants/default_tenant/databases/default_database/collections"


class ChromaResults(NamedTuple):
    """Search results for Q queries, best first: ``names[q][k]`` and cosines ``scores[q][k]``."""

    names: list[list[str]]
    scores: list[list[float]]


class ChromaIndex:
    """Named unit vectors ``[N, D]``, sharded over one collection on each of several Chroma servers; any number of clients may search.

    Args:
        servers: Addresses, such as ``["https://vectors-a.example.org"]``.
            The shard of a name depends on their number and order, which must not
            change after vectors have been added.
        collection: Name of the collection: 3 to 512 letters, digits, ``.``, ``_``, ``-``.
        dimension: D.
        fingerprint: Fingerprint of the embedder; a collection with another fingerprint is rejected.
        ef_search: Number of candidates in the HNSW search of a server; a higher value raises recall and latency.
        token: Secret sent with every request, as ``Authorization: Bearer`` and ``X-Chroma-Token``; needs ``https``, except on
            this machine.

    Raises:
        ConnectionError: If a server does not respond, or not as Chroma does.
        ValueError: If there are no servers, an address is not one of HTTP, or a collection has another dimension or fingerprint.
    """

    def __init__(
        self,
        servers: Sequence[str],
        collection: str,
        dimension: int,
        fingerprint: str = "",
        ef_search: int = 200,
        token: str = "",
    ):
        if not servers:
            raise ValueError("No servers; give at least one address, such as 'http://localhost:8000'.")
        for server in servers:
            _check_address(server, token)
        self._headers = {"Content-Type": "application/json"}
        if token:
            self._headers |= {"Authorization": f"Bearer {token}", "X-Chroma-Token": token}
        metadata = {"dimension": dimension, "fingerprint": fingerprint}
        configuration = {"hnsw": {"space": "ip", "ef_search": ef_search}}
        request = {"name": collection, "get_or_create": True, "metadata": metadata, "configuration": configuration}
        self.dimension = dimension
        self.shards = [_get_or_create_collection(server.rstrip("/"), request, self._headers) for server in servers]

    def __len__(self) -> int:
        """Number of vectors on all servers."""
        return sum(self._request_shards("GET", "count", [None] * len(self.shards)))

    def add_store(self, store: VectorStore, batch_size: int = 2000) -> None:
        """Add all vectors of ``store``, ``batch_size`` at a time."""
        for rows, vectors in store.iter_batches(batch_size=batch_size):
            self.add(store.names_of(rows), vectors)

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
        vectors = check_unit_vectors(queries, "Query").tolist()
        body = {"query_embeddings": vectors, "n_results": k, "include": ["distances"]}
        shard_results = self._request_shards("POST", "query", [body] * len(self.shards))
        with _explain_answer(", ".join(self.shards)):
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
            urls, payloads = [f"{shard}/{endpoint}" for shard, _ in requests], [body for _, body in requests]
            return list(pool.map(lambda url, body: _request_json(method, url, self._headers, body), urls, payloads))


def _merge_top_k(shard_results: Sequence[tuple[list[str], list[float]]], k: int) -> list[tuple[float, str]]:
    return sorted(
        (distance, name) for names, distances in shard_results for name, distance in zip(names, distances, strict=True)
    )[:k]


def _check_address(server: str, token: str) -> None:
    """Refuse addresses of files, and those that would send ``token`` unencrypted to another machine."""
    address = urlsplit(server)
    if address.scheme not in ("http", "https") or not address.hostname:
        raise ValueError(f"'{server}' is no address of a server; it starts with http:// or https://.")
    if token and address.scheme == "http" and address.hostname not in ("localhost", "127.0.0.1", "::1"):
        raise ValueError(f"'{server}' would receive the token unencrypted; use https://, or a tunnel to localhost.")


def _get_or_create_collection(server: str, request: dict[str, Any], headers: dict[str, str]) -> str:
    """Return the URL of the collection on ``server``; it is created if it does not exist."""
    metadata, collection = request["metadata"], _request_json("POST", server + COLLECTIONS_PATH, headers, request)
    with _explain_answer(server):
        stored, number = collection["metadata"], collection["id"]
    if stored != metadata:
        raise ValueError(
            f"'{request['name']}' on {server} holds {stored}, not {metadata}. "
            "Descriptors of different encoders cannot be compared; use another collection name."
        )
    return f"{server}{COLLECTIONS_PATH}/{number}"


@contextmanager
def _explain_answer(server: str) -> Iterator[None]:
    """Turn an answer without the fields of Chroma's interface into an error that names the ``server``."""
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError, HTTPException) as error:
        raise ConnectionError(f"{server} does not answer as Chroma does ({type(error).__name__}: {error}).") from error


def _request_json(method: str, url: str, headers: dict[str, str], body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = Request(url, data, headers, method=method)
    try:
        with _explain_answer(url), urlopen(request, timeout=60) as response:
            return json.loads(response.read() or b"null")
    except HTTPError as error:
        remedy = " Give the token of the server." if error.code in (401, 403) else ""
        raise ValueError(f"{url} returned {error.code}: {error.read().decode(errors='replace')}{remedy}") from error
    except URLError as error:
        hint = "Start a server on that machine: pip install chromadb, chroma run --path vectors"
        raise ConnectionError(f"{url} does not respond ({error.reason}). {hint}") from error
