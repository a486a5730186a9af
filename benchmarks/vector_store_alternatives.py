"""Libraries that could store the vectors of an index: LanceDB, usearch, Milvus Lite and FAISS, in what a store has to do.

    uv venv VENV && uv pip install --python VENV/bin/python lancedb usearch milvus-lite pymilvus faiss-cpu
    VENV/bin/python benchmarks/vector_store_alternatives.py [--vectors 100000] [--out FILE]

Needs these four packages, NumPy and psutil, and neither PyTorch nor FeatLift. Each library builds a store of unit vectors of dimension 128
on disk, adding 10,000 at a time, and searches it exactly and, where it can, with an index. Then one vector is replaced under its name, a
filter is applied, a second process writes at the same time, and a process that writes is killed. Times are CPU seconds of the process;
only ratios are comparable between machines. Results: ``benchmarks/results/vector_store_alternatives.json``.
"""

import argparse
import json
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np

DIMENSION, CHUNK, K, SEED = 128, 10_000, 10, 0
KILLS = 5
NEW = 1_000
"""Vectors that a second or a killed process adds, 100 at a time."""
Vectors = np.ndarray


def unit_vectors(n: int, seed: int) -> Vectors:
    """Return ``[n, DIMENSION]`` unit vectors around 2,000 directions."""
    rng = np.random.default_rng(seed)
    centers = np.random.default_rng(SEED).standard_normal((2000, DIMENSION), dtype=np.float32)
    vectors = centers[rng.integers(2000, size=n)] + 0.7 * rng.standard_normal((n, DIMENSION), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class Store(Protocol):
    """What is asked of a library; ids are the numbers of the vectors."""

    def __init__(self, folder: Path) -> None: ...
    def add(self, first: int, vectors: Vectors) -> None:
        """Add or replace the vectors ``first``, ``first + 1``, …, on disk when it returns."""

    def count(self) -> int: ...
    def exact(self, queries: Vectors) -> Vectors | None:
        """Return the ids ``[Q, K]`` of an exact search, or None."""

    def build_index(self) -> None: ...
    def approximate(self, queries: Vectors) -> Vectors: ...
    def filtered(self, queries: Vectors, below: int) -> Vectors | None:
        """Return the ids among those less than ``below``, or None if the library has no filter."""


class Lance:
    """LanceDB: a table; IVF-RaBitQ-like quantized index."""

    def __init__(self, folder: Path) -> None:
        import lancedb
        import pyarrow as pa

        self.pa, database = pa, lancedb.connect(folder)
        schema = pa.schema([("id", pa.int64()), ("vector", pa.list_(pa.float32(), DIMENSION))])
        self.table = database.create_table("t", schema=schema, exist_ok=True)

    def add(self, first: int, vectors: Vectors) -> None:
        column = self.pa.FixedSizeListArray.from_arrays(self.pa.array(vectors.ravel()), DIMENSION)
        rows = self.pa.table({"id": np.arange(first, first + len(vectors)), "vector": column}, schema=self.table.schema)
        self.table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all().execute(rows)

    def count(self) -> int:
        return self.table.count_rows()

    def _search(self, queries: Vectors, prepare: Callable[[Any], Any]) -> Vectors:
        found = [
            prepare(self.table.search(q).distance_type("dot")).select(["id"]).limit(K).to_arrow()["id"].to_numpy()
            for q in queries
        ]
        return np.stack(found)

    def exact(self, queries: Vectors) -> Vectors | None:
        return self._search(queries, lambda q: q.bypass_vector_index())

    def build_index(self) -> None:
        self.table.create_index("dot", vector_column_name="vector", index_type="IVF_PQ", num_partitions=128)

    def approximate(self, queries: Vectors) -> Vectors:
        return self._search(queries, lambda q: q.nprobes(16).refine_factor(10))

    def filtered(self, queries: Vectors, below: int) -> Vectors | None:
        return self._search(queries, lambda q: q.bypass_vector_index().where(f"id < {below}", prefilter=True))


class USearch:
    """usearch: one HNSW graph in one file, which is written as a whole."""

    def __init__(self, folder: Path) -> None:
        from usearch.index import Index

        self.file = folder / "t.usearch"
        self.index = Index(ndim=DIMENSION, metric="ip", dtype="f32")
        if self.file.exists():
            self.index.load(str(self.file))

    def add(self, first: int, vectors: Vectors) -> None:
        keys = np.arange(first, first + len(vectors))
        if len(self.index) and self.index.contains(keys).any():
            self.index.remove(keys)
        self.index.add(keys, vectors, threads=1)
        self.index.save(str(self.file))

    def count(self) -> int:
        return len(self.index)

    def _keys(self, queries: Vectors, exact: bool) -> Vectors:
        found = self.index.search(queries, K, exact=exact, threads=1)
        return np.asarray(found.keys).astype(np.int64).reshape(len(queries), K)

    def exact(self, queries: Vectors) -> Vectors | None:
        return self._keys(queries, exact=True)

    def build_index(self) -> None:
        pass

    def approximate(self, queries: Vectors) -> Vectors:
        return self._keys(queries, exact=False)

    def filtered(self, queries: Vectors, below: int) -> Vectors | None:
        return None


class Milvus:
    """Milvus Lite: a collection in one file, in a process of the library's own."""

    def __init__(self, folder: Path) -> None:
        from pymilvus import MilvusClient

        self.client = MilvusClient(str(folder / "t.db"))
        if not self.client.has_collection("t"):
            self.client.create_collection("t", dimension=DIMENSION, metric_type="IP")

    def add(self, first: int, vectors: Vectors) -> None:
        for i in range(0, len(vectors), 5000):
            rows = [{"id": first + i + j, "vector": v} for j, v in enumerate(vectors[i : i + 5000])]
            self.client.upsert("t", rows)

    def count(self) -> int:
        return int(self.client.query("t", filter="", output_fields=["count(*)"])[0]["count(*)"])

    def _search(self, queries: Vectors, condition: str = "") -> Vectors:
        found = self.client.search("t", list(queries), limit=K, filter=condition)
        return np.array([[hit["id"] for hit in hits] for hits in found])

    def exact(self, queries: Vectors) -> Vectors | None:
        return self._search(queries)

    def build_index(self) -> None:
        raise NotImplementedError("FLAT and AUTOINDEX (the same) of collections of this size")

    def approximate(self, queries: Vectors) -> Vectors:
        return self._search(queries)

    def filtered(self, queries: Vectors, below: int) -> Vectors | None:
        return self._search(queries, f"id < {below}")


class Faiss:
    """FAISS: an inverted file that is read and written as a whole; ids by a map."""

    def __init__(self, folder: Path) -> None:
        import faiss

        faiss.omp_set_num_threads(1)
        self.faiss, self.file = faiss, folder / "t.faiss"
        exists = self.file.exists()
        self.index = faiss.read_index(str(self.file)) if exists else faiss.IndexIDMap2(faiss.IndexFlatIP(DIMENSION))

    def add(self, first: int, vectors: Vectors) -> None:
        ids = np.arange(first, first + len(vectors))
        self.index.remove_ids(ids)
        self.index.add_with_ids(vectors, ids)
        self.faiss.write_index(self.index, str(self.file))

    def count(self) -> int:
        return self.index.ntotal

    def exact(self, queries: Vectors) -> Vectors | None:
        return self.index.search(queries, K)[1]

    def build_index(self) -> None:
        vectors = self.index.index.reconstruct_n(0, self.count())
        self.ivf = self.faiss.index_factory(DIMENSION, "IVF128,Flat", self.faiss.METRIC_INNER_PRODUCT)
        self.ivf.train(vectors[:20000])
        self.ivf.add_with_ids(vectors, self.faiss.vector_to_array(self.index.id_map))
        self.ivf.nprobe = 16

    def approximate(self, queries: Vectors) -> Vectors:
        return self.ivf.search(queries, K)[1]

    def filtered(self, queries: Vectors, below: int) -> Vectors | None:
        parameters = self.faiss.SearchParameters(sel=self.faiss.IDSelectorRange(0, below))
        return self.index.search(queries, K, params=parameters)[1]


STORES: dict[str, tuple[type[Store], str]] = {
    "LanceDB": (Lance, "lancedb"),
    "usearch": (USearch, "usearch"),
    "Milvus Lite": (Milvus, "milvus-lite"),
    "FAISS": (Faiss, "faiss-cpu"),
}


def seconds(call: Callable[[], Any]) -> tuple[float, Any]:
    """Return the CPU seconds of this process and its children (Milvus Lite's server) in ``call``, and its result."""
    start = _cpu_seconds()
    result = call()
    return _cpu_seconds() - start, result


def _cpu_seconds() -> float:
    import psutil

    children = [child.cpu_times() for child in psutil.Process().children(recursive=True)]
    return time.process_time() + sum(times.user + times.system for times in children)


def recall(found: Vectors, truth: Vectors) -> float:
    """Return the share of ``truth [Q, K]`` in ``found``."""
    return float(np.mean([len(set(a.tolist()) & set(b.tolist())) / K for a, b in zip(found, truth, strict=True)]))


def measure(name: str, folder: Path, n: int) -> dict[str, Any]:
    """Return one row of the table."""
    return _build_and_search(name, folder, n) | _disturb(name, folder, n)


def _build_and_search(name: str, folder: Path, n: int) -> dict[str, Any]:
    kind, package = STORES[name]
    store, queries = kind(folder), unit_vectors(50, 10**6)
    chunks = [(first, unit_vectors(min(CHUNK, n - first), first + 1)) for first in range(0, n, CHUNK)]
    everything = np.concatenate([vectors for _, vectors in chunks])
    truth = np.argsort(-(queries @ everything.T), axis=1)[:, :K]
    build, _ = seconds(lambda: [store.add(*chunk) for chunk in chunks])
    exact_s, exact = seconds(lambda: store.exact(queries))
    row = {"library": f"{name} {version(package)}", "build, CPU s": round(build, 1), "MB": round(_megabytes(folder), 1)}
    row |= {"exact, CPU ms per query": round(20 * exact_s, 2), "recall of exact": round(recall(exact, truth), 3)}
    try:
        index_s, _ = seconds(store.build_index)
        search_s, found = seconds(lambda: store.approximate(queries))
        row |= {"index, CPU s": round(index_s, 1), "approximate, CPU ms per query": round(20 * search_s, 2)}
        row["recall of approximate"] = round(recall(found, truth), 3)
    except NotImplementedError:
        pass
    everything[5], everything[7] = unit_vectors(1, 77)[0], queries[0]
    store.add(5, everything[5:6])
    update_s, _ = seconds(lambda: store.add(7, queries[:1]))
    row |= {"replace one, CPU ms": round(1000 * update_s, 1)}
    row["a replaced vector is found once"] = bool(
        store.exact(queries[:1])[0].tolist().count(7) == 1 and store.count() == n
    )
    try:
        found = store.filtered(queries, n // 10)
        truth = np.argsort(-(queries @ everything[: n // 10].T), axis=1)[:, :K]
        row["filter"] = "no" if found is None else f"yes, recall {recall(found, truth):.2f}"
    except Exception as error:
        row["filter"] = f"no ({type(error).__name__})"
    return row


def _disturb(name: str, folder: Path, n: int) -> dict[str, Any]:
    """Write from two processes at once, then kill one that writes; count what the store holds afterwards."""
    start = [sys.executable, __file__, "--write", name, str(folder)]
    writers = [
        subprocess.Popen([*start, str(n + i * NEW)], stdout=subprocess.PIPE, stderr=subprocess.PIPE) for i in (0, 1)
    ]
    outputs = [writer.communicate(timeout=900) for writer in writers]
    codes = [writer.returncode for writer in writers]
    reported = sum(output.count(b"100\n") * 100 for output, _ in outputs)
    left = _count(name, folder)
    row = {
        "two writers": f"exit codes {codes[0]}, {codes[1]}; {reported:,} reported, {left - n if left else 'none'} there"
    }
    opened = sum(_kill(name, folder, n + (2 + i) * NEW) for i in range(KILLS))
    row["kill -9 in a write"] = f"{opened} of {KILLS} times all that was reported is there"
    return row


def _kill(name: str, folder: Path, first: int) -> bool:
    """Kill a process that writes; return whether the store can be opened and has all vectors that were reported as written."""
    before = _count(name, folder)
    writer = subprocess.Popen(
        [sys.executable, __file__, "--write", name, str(folder), str(first)], stdout=subprocess.PIPE
    )
    reported = sum(100 for _ in range(3) if writer.stdout.readline())
    time.sleep(random.Random(first).uniform(0, 0.1))
    writer.send_signal(signal.SIGKILL)
    reported += writer.communicate()[0].count(b"100\n") * 100
    after = _count(name, folder)
    return before is not None and after is not None and after - before >= reported


def _count(name: str, folder: Path) -> int | None:
    """Return the number of vectors that a new process finds, or None if it ends with an error."""
    done = subprocess.run([sys.executable, __file__, "--count", name, str(folder)], capture_output=True, timeout=600)
    return int(done.stdout.split()[-1]) if done.returncode == 0 else None


def _megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def main() -> None:
    """Measure all libraries, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=int, default=100_000)
    parser.add_argument("--only", choices=STORES, help=argparse.SUPPRESS)
    parser.add_argument("--write", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--count", nargs=2, help=argparse.SUPPRESS)
    default = Path(__file__).parent / "results" / "vector_store_alternatives.json"
    parser.add_argument("--out", type=Path, default=default)
    args = parser.parse_args()
    if args.write:
        store, first = STORES[args.write[0]][0](Path(args.write[1])), int(args.write[2])
        for i in range(0, NEW, 100):
            store.add(first + i, unit_vectors(100, first + i))
            print(100, flush=True)
    elif args.count:
        print(STORES[args.count[0]][0](Path(args.count[1])).count())
    elif args.only:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(measure(args.only, Path(folder), args.vectors)))
    else:
        write(args)


def write(args: argparse.Namespace) -> None:
    """Measure in processes, and write the table."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent)
    made = {
        "command": f"python benchmarks/vector_store_alternatives.py --vectors {args.vectors}",
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": commit.stdout.strip(),
        "dirty": False,
        "device": f"cpu: {platform.machine()}, {os.cpu_count()} cores",
        "seed": SEED,
        "load": round(os.getloadavg()[0], 2),
        "versions": {"python": platform.python_version()},
    }
    rows = []
    for name in STORES:
        command = [sys.executable, __file__, "--only", name, "--vectors", str(args.vectors)]
        done = subprocess.run(command, capture_output=True, text=True)
        error = {"library": name, "error": (done.stderr.splitlines() or [""])[-1]}
        rows.append(json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else error)
        print(rows[-1], flush=True)
    caption = f"{args.vectors:,} vectors of dimension {DIMENSION}, ten results; times of one process"
    table = {"tables": [{"caption": caption, "rows": rows}], "made": made}
    args.out.write_text(json.dumps(table, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
