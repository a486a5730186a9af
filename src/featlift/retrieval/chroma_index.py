"""A gallery on other machines: unit vectors in Chroma servers, spoken to over HTTP.

Chroma (https://www.trychroma.com, Apache-2.0) is an existing vector database; ``pip install chromadb`` on each machine of the gallery and
``chroma run --path vectors --host 0.0.0.0`` is all that they need, and nothing is needed here. A gallery that one machine cannot hold
is spread over several; each answers for its part, and the answers are put in order. Lifting stays on the query's side: what is sent is
``lifted(G, F(query))``, so a gallery that is served already need not be described again.
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
    """What was found for Q queries, best first: ``names[q][k]`` and cosines ``scores[q][k]``."""

    names: list[list[str]]
    scores: list[list[float]]


class ChromaIndex:
    """Named unit vectors ``[N, D]`` in one collection on each of several Chroma servers. Any number of machines may ask.

    Args:
        servers: addresses, such as ``["http://10.0.0.5:8000"]``. A name always lives on the same one, so their number and order must
            stay as they were when vectors were added.
        collection: of the collection: 3 to 512 letters, digits, ``.``, ``_``, ``-``.
        dimension: D.
        fingerprint: what the vectors are (the fingerprint of the describer); a collection of others is refused.
        ef_search: candidates that a server's graph keeps while it searches; more find more, and take longer.

    Raises:
        ConnectionError: if a server does not answer.
        ValueError: if there are no servers, or a collection holds vectors of another kind.
    """

    def __init__(
        self, servers: Sequence[str], collection: str, dimension: int, fingerprint: str = "", ef_search: int = 200
    ):
        if not servers:
            raise ValueError("No servers: name at least one address, such as 'http://localhost:8000'.")
        facts = {"dimension": dimension, "about": fingerprint}
        graph = {"hnsw": {"space": "ip", "ef_search": ef_search}}
        wanted = {"name": collection, "get_or_create": True, "metadata": facts, "configuration": graph}
        self.dimension = dimension
        self.shards = [_get_or_create_collection(server.rstrip("/"), wanted) for server in servers]

    def __len__(self) -> int:
        """Vectors on all servers together."""
        return sum(self._request_shards("GET", "count", [None] * len(self.shards)))

    def add_store(self, store: VectorStore, batch_size: int = 2000) -> None:
        """Adds everything that is in ``store``, ``batch_size`` vectors at a time."""
        rows = [row for row in range(store.num_rows) if row not in store.removed]
        for start in range(0, len(rows), batch_size):
            part = rows[start : start + batch_size]
            self.add([store.names[row] for row in part], store.take(part))

    def add(self, names: Sequence[str], vectors: Tensor) -> None:
        """Adds ``vectors [n, D]``; a name that is there already gets the new vector.

        Raises:
            ValueError: if names and vectors do not fit together.
        """
        if vectors.shape != (len(names), self.dimension):
            raise ValueError(
                f"{len(names)} names for vectors of shape {tuple(vectors.shape)}, not [n, {self.dimension}]."
            )
        by_name = dict(zip(names, vectors.tolist(), strict=True))
        parts = self._split_by_shard(by_name)
        self._request_shards(
            "POST", "upsert", [{"ids": p, "embeddings": [by_name[n] for n in p]} if p else None for p in parts]
        )

    def remove(self, names: Iterable[str]) -> None:
        """Takes ``names`` out; those that are not there are not missed."""
        self._request_shards(
            "POST", "delete", [{"ids": part} if part else None for part in self._split_by_shard(names)]
        )

    def search(self, queries: Tensor, k: int) -> ChromaResults:
        """The ``k`` nearest, nearly always, to each of the unit vectors ``queries [Q, D]``; all servers are asked at once."""
        asked = {"query_embeddings": queries.tolist(), "n_results": k, "include": ["distances"]}
        found = self._request_shards("POST", "query", [asked] * len(self.shards))
        merged = [
            _merge_top_k([(part["ids"][q], part["distances"][q]) for part in found], k) for q in range(len(queries))
        ]
        return ChromaResults(
            [[name for _, name in line] for line in merged], [[1 - far for far, _ in line] for line in merged]
        )

    def _split_by_shard(self, names: Iterable[str]) -> list[list[str]]:
        parts: list[list[str]] = [[] for _ in self.shards]
        for name in names:
            parts[zlib.crc32(name.encode()) % len(parts)].append(name)
        return parts

    def _request_shards(self, method: str, endpoint: str, bodies: Sequence[Any]) -> list[Any]:
        """The answer of every shard; one that is posted nothing is not asked."""
        asked = [
            (shard, body)
            for shard, body in zip(self.shards, bodies, strict=True)
            if method == "GET" or body is not None
        ]
        with ThreadPoolExecutor(max(1, len(asked))) as pool:
            return list(pool.map(lambda pair: _request_json(method, f"{pair[0]}/{endpoint}", pair[1]), asked))


def _merge_top_k(parts: Sequence[tuple[list[str], list[float]]], k: int) -> list[tuple[float, str]]:
    return sorted((far, name) for names, distances in parts for name, far in zip(names, distances, strict=True))[:k]


def _get_or_create_collection(server: str, request: dict[str, Any]) -> str:
    """The address of the collection on ``server``, made if it is not there."""
    there, facts = _request_json("POST", server + COLLECTIONS_PATH, request), request["metadata"]
    if there["metadata"] != facts:
        raise ValueError(
            f"'{request['name']}' on {server} holds {there['metadata']}, not {facts}. "
            "Descriptors of different encoders cannot be compared; take another name."
        )
    return f"{server}{COLLECTIONS_PATH}/{there['id']}"


def _request_json(method: str, url: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = Request(url, data, {"Content-Type": "application/json"}, method=method)
    try:
        with urlopen(request, timeout=60) as answer:
            return json.loads(answer.read() or b"null")
    except HTTPError as error:
        raise ValueError(f"{url} answered {error.code}: {error.read().decode(errors='replace')}") from error
    except URLError as error:
        hint = (
            "Is a server running there? On that machine: pip install chromadb, chroma run --path vectors --host 0.0.0.0"
        )
        raise ConnectionError(f"{url} does not answer ({error.reason}). {hint}") from error
