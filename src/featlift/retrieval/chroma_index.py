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

DATABASE = "/api/v2/tenants/default_tenant/databases/default_database/collections"


class Answer(NamedTuple):
    """What was found for Q queries, best first: ``names[q][k]`` and cosines ``scores[q][k]``."""

    names: list[list[str]]
    scores: list[list[float]]


class ServedIndex:
    """Named unit vectors ``[N, D]`` in one collection on each of several Chroma servers. Any number of machines may ask.

    Args:
        servers: addresses, such as ``["http://10.0.0.5:8000"]``. A name always lives on the same one, so their number and order must
            stay as they were when vectors were added.
        name: of the collection: 3 to 512 letters, digits, ``.``, ``_``, ``-``.
        dimension: D.
        about: what the vectors are (the fingerprint of the describer); a collection of others is refused.
        effort: candidates that a server's graph keeps while it searches; more find more, and take longer.

    Raises:
        ConnectionError: if a server does not answer.
        ValueError: if there are no servers, or a collection holds vectors of another kind.
    """

    def __init__(self, servers: Sequence[str], name: str, dimension: int, about: str = "", effort: int = 200):
        if not servers:
            raise ValueError("No servers: name at least one address, such as 'http://localhost:8000'.")
        facts = {"dimension": dimension, "about": about}
        graph = {"hnsw": {"space": "ip", "ef_search": effort}}
        wanted = {"name": name, "get_or_create": True, "metadata": facts, "configuration": graph}
        self.dimension = dimension
        self.shards = [_collection(server.rstrip("/"), wanted) for server in servers]

    def __len__(self) -> int:
        """Vectors on all servers together."""
        return sum(self._everywhere("GET", "count", [None] * len(self.shards)))

    def copy(self, store: VectorStore, piece: int = 2000) -> None:
        """Adds everything that is in ``store``, ``piece`` vectors at a time."""
        rows = [row for row in range(store.rows) if row not in store.removed]
        for start in range(0, len(rows), piece):
            part = rows[start : start + piece]
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
        parts = self._parted(by_name)
        self._everywhere(
            "POST", "upsert", [{"ids": p, "embeddings": [by_name[n] for n in p]} if p else None for p in parts]
        )

    def remove(self, names: Iterable[str]) -> None:
        """Takes ``names`` out; those that are not there are not missed."""
        self._everywhere("POST", "delete", [{"ids": part} if part else None for part in self._parted(names)])

    def search(self, queries: Tensor, k: int) -> Answer:
        """The ``k`` nearest, nearly always, to each of the unit vectors ``queries [Q, D]``; all servers are asked at once."""
        asked = {"query_embeddings": queries.tolist(), "n_results": k, "include": ["distances"]}
        found = self._everywhere("POST", "query", [asked] * len(self.shards))
        merged = [_best([(part["ids"][q], part["distances"][q]) for part in found], k) for q in range(len(queries))]
        return Answer(
            [[name for _, name in line] for line in merged], [[1 - far for far, _ in line] for line in merged]
        )

    def _parted(self, names: Iterable[str]) -> list[list[str]]:
        parts: list[list[str]] = [[] for _ in self.shards]
        for name in names:
            parts[zlib.crc32(name.encode()) % len(parts)].append(name)
        return parts

    def _everywhere(self, method: str, what: str, bodies: Sequence[Any]) -> list[Any]:
        """The answer of every shard; one that is posted nothing is not asked."""
        asked = [
            (shard, body)
            for shard, body in zip(self.shards, bodies, strict=True)
            if method == "GET" or body is not None
        ]
        with ThreadPoolExecutor(max(1, len(asked))) as pool:
            return list(pool.map(lambda pair: _call(method, f"{pair[0]}/{what}", pair[1]), asked))


def _best(parts: Sequence[tuple[list[str], list[float]]], k: int) -> list[tuple[float, str]]:
    return sorted((far, name) for names, distances in parts for name, far in zip(names, distances, strict=True))[:k]


def _collection(server: str, wanted: dict[str, Any]) -> str:
    """The address of the collection on ``server``, made if it is not there."""
    there, facts = _call("POST", server + DATABASE, wanted), wanted["metadata"]
    if there["metadata"] != facts:
        raise ValueError(
            f"'{wanted['name']}' on {server} holds {there['metadata']}, not {facts}. "
            "Descriptors of different encoders cannot be compared; take another name."
        )
    return f"{server}{DATABASE}/{there['id']}"


def _call(method: str, address: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = Request(address, data, {"Content-Type": "application/json"}, method=method)
    try:
        with urlopen(request, timeout=60) as answer:
            return json.loads(answer.read() or b"null")
    except HTTPError as error:
        raise ValueError(f"{address} answered {error.code}: {error.read().decode(errors='replace')}") from error
    except URLError as error:
        hint = (
            "Is a server running there? On that machine: pip install chromadb, chroma run --path vectors --host 0.0.0.0"
        )
        raise ConnectionError(f"{address} does not answer ({error.reason}). {hint}") from error
