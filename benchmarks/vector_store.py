"""Exact search compared with FAISS, and a store of a million vectors that is killed, resumed, updated and compacted.

    python benchmarks/vector_store.py [--vectors 100000] [--rounds 7]
    python benchmarks/vector_store.py --million [--large 1000000]

Results: ``benchmarks/results/vector_store.json`` and ``vector_store_million.json``. Times are CPU times of a process, which the load of the
machine changes little: those of exact search are medians of interleaved rounds on one thread; only ratios are comparable between machines.
"""

import argparse
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from run import RESULTS, collect_metadata, write_result
from search import build_store, clustered_vectors, compute_recall, time_interleaved

from featlift.retrieval.exact_search import MemoryIndex, exact_search
from featlift.retrieval.faiss_index import FaissIndex
from featlift.retrieval.vector_store import VectorStore
from featlift.training.memory import read_peak_memory

DIMENSION = 512
Row = dict[str, Any]


def compare_exact(folder: Path, n: int, rounds: int) -> list[Row]:
    """Return the time of `MemoryIndex`, and of a search of the store on disk, as ratios to FAISS's flat index."""
    import faiss

    store = build_store(folder, n, DIMENSION, chunk_size=20_000)
    memory, flat = MemoryIndex(store), faiss.IndexFlatIP(DIMENSION)
    flat.add(store.take(store.rows).numpy())
    rows = []
    for num_queries in (1, 50, 500):
        queries = clustered_vectors(num_queries, DIMENSION, 10**9)
        calls = {
            "FAISS flat": lambda q=queries: flat.search(q.numpy(), 10),
            "in memory": lambda q=queries: memory.search(q, 10),
            "on disk": lambda q=queries: exact_search(store, q, 10),
        }
        times = time_interleaved(calls, rounds, time.process_time)
        reference = times["FAISS flat"]["median"]
        row = {"vectors": n, "queries": num_queries, "FAISS flat, ms": round(reference, 1)}
        rows.append(
            row | {f"{name}, ratio": round(times[name]["median"] / reference, 2) for name in ("in memory", "on disk")}
        )
    return rows


def measure_large(folder: Path, n: int, chunk_size: int = 20_000) -> Row:
    """Build a store of ``n`` vectors in a process that is killed twice, resume, replace and remove 1 %, compact, and search it."""
    row: Row = {"vectors": n, "kills": 0}
    for share in (0.3, 0.6, None):
        command = [sys.executable, __file__, "--build", str(folder), str(n), str(chunk_size)]
        process = subprocess.Popen(command)
        while share is not None and _count(folder) < share * n and process.poll() is None:
            time.sleep(0.2)
        if share is not None and process.poll() is None:
            process.send_signal(signal.SIGKILL)
            row["kills"] += 1
        process.wait()
    row["build, CPU s"] = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    store = VectorStore(folder, DIMENSION)
    row["lost"] = len(set(range(n)) - set(map(int, store.names)))
    assert len(store) == n - row["lost"], "a vector is there twice"
    changed = [str(i) for i in range(0, n, 200)]
    start = time.process_time()
    for i in range(0, len(changed), 1000):
        store.add(changed[i : i + 1000], clustered_vectors(len(changed[i : i + 1000]), DIMENSION, 2 * 10**9 + i))
    store.remove([str(i) for i in range(1, n, 200)])
    row["update, CPU s"], row["MB before compaction"] = time.process_time() - start, _megabytes(folder)
    start = time.process_time()
    store.compact(timedelta(0))
    row["compact, CPU s"], row["MB after compaction"] = time.process_time() - start, _megabytes(folder)
    return row | _search_large(store)


def _search_large(store: VectorStore) -> Row:
    queries, index = clustered_vectors(50, DIMENSION, 10**9), FaissIndex(store, "ivf-rabitq", 1024)
    start = time.process_time()
    exact = exact_search(store, queries, 10)
    exact_seconds, start = time.process_time() - start, time.process_time()
    index.build(max_training_vectors=65536)
    build_seconds, start = time.process_time() - start, time.process_time()
    recall = compute_recall(index.search(queries, 10, k_factor=20), exact)
    return {
        "exact, CPU s per 50 queries": exact_seconds,
        "index, CPU s": build_seconds,
        "ivf-rabitq, CPU s per 50 queries": time.process_time() - start,
        "recall@10": recall,
        "peak memory, MB": read_peak_memory(torch.device("cpu")) / 1e6,
    }


def _count(folder: Path) -> int:
    """Return the number of vectors in the chunks on disk, by their size."""
    return sum(path.stat().st_size for path in folder.rglob("*.lance") if path.is_file()) // (4 * DIMENSION)


def _megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def build(folder: Path, n: int, chunk_size: int) -> None:
    """Add the vectors that the store lacks."""
    store = VectorStore(folder, DIMENSION)
    for start in range(0, n, chunk_size):
        names = [str(i) for i in range(start, min(n, start + chunk_size))]
        if names[0] not in store:
            store.add(names, clustered_vectors(len(names), DIMENSION, start))


def main() -> None:
    """Run the measurements on one thread."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--million", action="store_true", help="measure the large store, not the exact search")
    parser.add_argument("--vectors", type=int, default=100_000)
    parser.add_argument("--large", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    os.environ["LANCE_CPU_THREADS"] = os.environ.get("LANCE_CPU_THREADS", "1")
    if args.build:
        build(Path(args.build[0]), *map(int, args.build[1:]))
        return
    import faiss

    faiss.omp_set_num_threads(1)
    metadata = collect_metadata(torch.device("cpu"), f"python benchmarks/vector_store.py {' '.join(sys.argv[1:])}")
    with tempfile.TemporaryDirectory() as folder:
        if args.million:
            row = {name: round(value, 3) for name, value in measure_large(Path(folder), args.large).items()}
            caption = f"A store on disk of vectors of dimension {DIMENSION}: built, killed, resumed, updated, compacted and searched"
            name, table = "vector_store_million", {"caption": caption, "rows": [row]}
        else:
            caption = f"Exact search of vectors of dimension {DIMENSION}, ten results: CPU time divided by that of FAISS's flat index"
            rows = compare_exact(Path(folder), args.vectors, args.rounds)
            name, table = "vector_store", {"caption": caption, "rows": rows}
    print(write_result(name, [table], metadata, args.out))


if __name__ == "__main__":
    main()
