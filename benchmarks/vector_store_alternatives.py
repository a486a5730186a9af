"""Libraries that could store the vectors of an index: LanceDB, usearch, Milvus Lite and FAISS, in what a store has to do.

    uv venv VENV && uv pip install --python VENV/bin/python lancedb usearch milvus-lite pymilvus faiss-cpu psutil
    VENV/bin/python benchmarks/vector_store_alternatives.py [--vectors 100000] [--folder FOLDER] [--out FILE]

Needs these packages and NumPy, and neither PyTorch nor FeatLift. Each library builds a store of unit vectors of dimension 128 on disk,
adding 10,000 at a time, and searches it exactly and, where it can, with an index. Then one vector is replaced under its name, a filter is
applied, two processes write at the same time, and processes that write are killed, each on a copy of the store. Times are CPU seconds of
a process and its children, on one thread where the library has such a setting; only ratios are comparable between machines. With
``--folder`` the rows of finished libraries are kept there, and the same command goes on with the others. Results:
``benchmarks/results/vector_store_alternatives.json``.
"""

import argparse
import json
import os
import platform
import random
import shutil
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

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "LANCE_CPU_THREADS"):
    os.environ[variable] = "1"

import numpy as np  # noqa: E402

DIMENSION, CHUNK, K, SEED = 128, 10_000, 10, 0
KILLS = 10
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

    index_name: str

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
    """LanceDB: a table of many files, and an index that quantizes, whose candidates are compared again."""

    index_name = "IVF_PQ, 128 cells, 16 searched, 100 compared"

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
        query = prepare(self.table.search(list(queries)).distance_type("dot"))
        found = query.select(["id", "_distance"]).limit(K).to_arrow()
        order = np.argsort(found["query_index"].to_numpy(), kind="stable")
        return found["id"].to_numpy()[order].reshape(len(queries), K)

    def exact(self, queries: Vectors) -> Vectors | None:
        return self._search(queries, lambda q: q.bypass_vector_index())

    def build_index(self) -> None:
        from lancedb.index import IvfPq

        self.table.create_index("vector", config=IvfPq(distance_type="dot", num_partitions=128))

    def approximate(self, queries: Vectors) -> Vectors:
        return self._search(queries, lambda q: q.nprobes(16).refine_factor(10))

    def filtered(self, queries: Vectors, below: int) -> Vectors | None:
        return self._search(queries, lambda q: q.bypass_vector_index().where(f"id < {below}", prefilter=True))


class USearch:
    """usearch: one HNSW graph in one file, which is written as a whole."""

    index_name = "HNSW, the store itself"

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
    """Milvus Lite: a collection in one folder, which one process opens at a time."""

    index_name = "IVF_FLAT, 128 cells, 16 searched"

    def __init__(self, folder: Path) -> None:
        from pymilvus import DataType, MilvusClient

        self.client = MilvusClient(str(folder / "t.db"))
        if not self.client.has_collection("t"):
            schema = self.client.create_schema()
            schema.add_field("id", DataType.INT64, is_primary=True)
            schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIMENSION)
            self.client.create_collection("t", schema=schema)
            self._create_index("FLAT")
        self.client.load_collection("t")

    def _create_index(self, kind: str, **params: int) -> None:
        index = self.client.prepare_index_params()
        index.add_index("vector", index_name="vector", index_type=kind, metric_type="IP", params=params)
        self.client.create_index("t", index)

    def add(self, first: int, vectors: Vectors) -> None:
        for i in range(0, len(vectors), 5000):
            rows = [{"id": first + i + j, "vector": v} for j, v in enumerate(vectors[i : i + 5000])]
            self.client.upsert("t", rows)

    def count(self) -> int:
        return int(self.client.query("t", filter="", output_fields=["count(*)"])[0]["count(*)"])

    def _search(self, queries: Vectors, cells: int = 128, condition: str = "") -> Vectors:
        params = {"metric_type": "IP", "params": {"nprobe": cells}}
        found = self.client.search("t", list(queries), limit=K, filter=condition, search_params=params)
        return np.array([[hit["id"] for hit in hits] for hits in found])

    def exact(self, queries: Vectors) -> Vectors | None:
        return self._search(queries)

    def build_index(self) -> None:
        self.client.flush("t")  # vectors that are still in memory are not in an index
        self.client.release_collection("t")
        self.client.drop_index("t", "vector")
        self._create_index("IVF_FLAT", nlist=128)
        self.client.load_collection("t")

    def approximate(self, queries: Vectors) -> Vectors:
        return self._search(queries, cells=16)

    def filtered(self, queries: Vectors, below: int) -> Vectors | None:
        return self._search(queries, condition=f"id < {below}")


class Faiss:
    """FAISS: vectors and their ids in one file, which is read and written as a whole; the index is built in memory."""

    index_name = "IVF, 128 cells, 16 searched"

    def __init__(self, folder: Path) -> None:
        import faiss

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


def build_and_search(name: str, folder: Path, n: int) -> dict[str, Any]:
    """Return the first columns of a row: build a store of ``n`` vectors in ``folder``, search it, and replace vectors."""
    kind, package = STORES[name]
    store, queries = kind(folder), unit_vectors(50, 10**6)
    chunks = [(first, unit_vectors(min(CHUNK, n - first), first + 1)) for first in range(0, n, CHUNK)]
    everything = np.concatenate([vectors for _, vectors in chunks])
    truth = _true_neighbors(queries, everything)
    build, _ = seconds(lambda: [store.add(*chunk) for chunk in chunks])
    exact_s, exact = seconds(lambda: store.exact(queries))
    row = {"library": f"{name} {version(package)}", "build, CPU s": round(build, 1), "MB": round(_megabytes(folder), 1)}
    row |= {"exact, CPU ms per query": round(20 * exact_s, 2), "recall of exact": round(recall(exact, truth), 3)}
    index_s, _ = seconds(store.build_index)
    search_s, found = seconds(lambda: store.approximate(queries))
    row |= {
        "index": store.index_name,
        "index, CPU s": round(index_s, 1),
        "with it, CPU ms per query": round(20 * search_s, 2),
    }
    row["recall with it"] = round(recall(found, truth), 3)
    everything[5], everything[7] = unit_vectors(1, 77)[0], queries[0]
    store.add(5, everything[5:6])
    update_s, _ = seconds(lambda: store.add(7, queries[:1]))
    row["replace one, CPU ms"] = round(1000 * update_s, 1)
    once = store.exact(queries[:2])[0].tolist().count(7) == 1 and store.count() == n
    row["a replaced vector is found once"] = "yes" if once else "no"
    found = store.filtered(queries, n // 10)
    truth = _true_neighbors(queries, everything[: n // 10])
    row["filter"] = "no" if found is None else f"yes, recall {recall(found, truth):.2f}"
    return row


def _true_neighbors(queries: Vectors, vectors: Vectors) -> Vectors:
    return np.argsort(-(queries @ vectors.T), axis=1)[:, :K]


def disturb(name: str, folder: Path, n: int) -> dict[str, Any]:
    """Return the last columns: write from two processes at once, and kill processes that write; count what the store then holds."""
    row, lost, broken = {"two writers": _two_writers(name, _copy(folder), n)}, 0, 0
    for i in range(KILLS):
        copy = _copy(folder)
        reported = _kill(name, copy, n + i * NEW)
        there = _count(name, copy)
        broken += there is None
        lost += there is not None and there - n < reported
    row["kill -9 in a write"] = f"{KILLS} times: {broken} stores cannot be opened, {lost} lack vectors"
    return row


def _copy(folder: Path) -> Path:
    """Return a fresh copy of ``folder`` in its parent."""
    copy = folder.with_name("copy")
    shutil.rmtree(copy, ignore_errors=True)
    return shutil.copytree(folder, copy)


def _start_writer(name: str, folder: Path, first: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, __file__, "--write", name, str(folder), str(first)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def _two_writers(name: str, folder: Path, n: int) -> str:
    writers = [_start_writer(name, folder, n + i * NEW) for i in (0, 1)]
    outputs = [writer.communicate(timeout=900) for writer in writers]
    failed = sum(writer.returncode != 0 for writer in writers)
    reported = sum(output.count(b"100\n") * 100 for output, _ in outputs)
    there = _count(name, folder)
    left = "cannot be opened" if there is None else f"{there - n:,} there"
    return f"{failed} of 2 end with an error; {reported:,} vectors reported, {left}"


def _kill(name: str, folder: Path, first: int) -> int:
    """Kill a process at a random moment of its fourth write; return the number of vectors that it reported."""
    writer, last, reported = _start_writer(name, folder, first), time.monotonic(), 0
    duration = 0.0
    while reported < 300 and writer.stdout.readline():
        now = time.monotonic()
        duration, last, reported = now - last, now, reported + 100
    time.sleep(random.Random(first).uniform(0, duration))
    writer.send_signal(signal.SIGKILL)
    return reported + writer.communicate()[0].count(b"100\n") * 100


def _count(name: str, folder: Path) -> int | None:
    """Return the number of vectors that a new process finds, or None if it ends with an error."""
    done = subprocess.run([sys.executable, __file__, "--count", name, str(folder)], capture_output=True, timeout=600)
    return int(done.stdout.split()[-1]) if done.returncode == 0 else None


def _megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def main() -> None:
    """Measure all libraries in processes of their own, or do the work of one of these processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, help="folder that keeps finished rows; default: a temporary one")
    default = Path(__file__).parent / "results" / "vector_store_alternatives.json"
    parser.add_argument("--out", type=Path, default=default)
    for hidden, number in (("--build", 3), ("--write", 3), ("--count", 2)):
        parser.add_argument(hidden, nargs=number, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.build:
        print(json.dumps(build_and_search(args.build[0], Path(args.build[1]), int(args.build[2]))))
    elif args.write:
        store, first = STORES[args.write[0]][0](Path(args.write[1])), int(args.write[2])
        for i in range(0, NEW, 100):
            store.add(first + i, unit_vectors(100, first + i))
            print(100, flush=True)
    elif args.count:
        print(STORES[args.count[0]][0](Path(args.count[1])).count())
    else:
        with tempfile.TemporaryDirectory() as temporary:
            write(args.vectors, args.folder or Path(temporary), args.out)


def write(n: int, folder: Path, out: Path) -> None:
    """Measure the libraries that have no row in ``folder``, and write the table."""
    made = {
        "command": f"python benchmarks/vector_store_alternatives.py --vectors {n}",
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "seed": SEED,
        "load": round(os.getloadavg()[0], 2),
        "commit": _git("rev-parse", "HEAD"),
        "dirty": bool(_git("status", "--porcelain")),
        "versions": {"python": platform.python_version(), "numpy": np.__version__},
        "device": f"cpu: {_processor()}, 1 of {os.cpu_count()} cores",
    }
    rows = [_row(name, n, folder) for name in STORES]
    caption = f"Vector stores on disk: {n:,} vectors of dimension {DIMENSION}, ten results; a store of FeatLift is one of LanceDB"
    table = {"tables": [{"caption": caption, "rows": rows}], "made": made}
    out.write_text(json.dumps(table, indent=1, ensure_ascii=False) + "\n")


def _row(name: str, n: int, folder: Path) -> dict[str, Any]:
    """Return the row of a library, from ``folder`` or measured."""
    kept = folder / f"{name} {n}.json"
    if kept.exists():
        return json.loads(kept.read_text())
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        store = Path(temporary) / "store"
        store.mkdir()
        command = [sys.executable, __file__, "--build", name, str(store), str(n)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        row = json.loads(done.stdout.splitlines()[-1]) | disturb(name, store, n)
    kept.write_text(json.dumps(row))
    print(json.dumps(row), flush=True)
    return row


def _git(*command: str) -> str:
    return subprocess.run(["git", *command], capture_output=True, text=True, cwd=Path(__file__).parent).stdout.strip()


def _processor() -> str:
    """Return the processor's name, as Linux gives it."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
