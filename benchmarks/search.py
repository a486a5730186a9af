"""Cost of image search in interleaved rounds: embedding, descriptor super-resolution, exact search and FAISS.

    python benchmarks/search.py [WEIGHTS] [--million]

WEIGHTS is the file of MobileNetV2 in the data folder. ``--million`` builds an index of 1,000,000 vectors of dimension 128 in chunks and
reports time, size and peak memory. Results: ``benchmarks/results/search.json``.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as nnf
from data_folder import MOBILENET
from run import RESULTS, collect_metadata, write_result

from featlift.retrieval.embedders import EmbedderConfig, build_embedder
from featlift.retrieval.exact_search import SearchResults, exact_search
from featlift.retrieval.faiss_index import FaissIndex
from featlift.retrieval.generator import DescriptorGenerator, ResidualGenerator, super_resolve_descriptors
from featlift.retrieval.vector_store import VectorStore
from featlift.training.memory import read_peak_memory

NUM_QUERIES = 50


def clustered_vectors(n: int, dimension: int, seed: int, centers: int = 2000) -> torch.Tensor:
    """Return unit vectors ``[n, dimension]`` around ``centers`` directions that do not depend on the seed."""
    directions = torch.randn(centers, dimension, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(seed + 1)
    nearest = directions[torch.randint(centers, (n,), generator=generator)]
    return nnf.normalize(nearest + 0.7 * torch.randn(n, dimension, generator=generator), dim=1)


def time_interleaved(
    calls: dict[str, Callable[[], object]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, dict[str, float]]:
    """Return the median, minimum and maximum ms of each call by ``clock`` over interleaved ``rounds``, after a warm-up round."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for round_index in range(rounds + 1):
        for name, call in calls.items():
            start = clock()
            call()
            if round_index:
                times[name].append(1000 * (clock() - start))
    return {name: {"median": statistics.median(t), "least": min(t), "greatest": max(t)} for name, t in times.items()}


def time_embedding(weights: str, rounds: int) -> dict:
    """Time the embedding of 16 images, in ms."""
    configs = {
        "gist at 128": EmbedderConfig("gist", input_size=128),
        "MobileNetV2 at 128": EmbedderConfig("mobilenetv2_100", weights, input_size=128),
    }
    configs["MobileNetV2 at 224"] = EmbedderConfig("mobilenetv2_100", weights, input_size=224)
    embedders = {name: build_embedder(config)[0] for name, config in configs.items()}
    return time_interleaved(
        {n: lambda F=F: F(torch.rand(16, 3, F.input_size, F.input_size)) for n, F in embedders.items()}, rounds
    )


def time_generators(rounds: int) -> dict:
    """Time descriptor super-resolution for batches of 1 and 64, in ms."""
    generators = {
        "paper, 4096": (DescriptorGenerator().eval(), 4096),
        "residual 1024, 1280": (ResidualGenerator(1280).eval(), 1280),
    }
    inputs = {f"{name}, batch {n}": (G, torch.rand(n, D)) for name, (G, D) in generators.items() for n in (1, 64)}
    return time_interleaved(
        {name: lambda args=args: super_resolve_descriptors(*args) for name, args in inputs.items()}, rounds
    )


def time_search(folder: Path, n: int, dimension: int, rounds: int) -> dict:
    """Time the search of :data:`NUM_QUERIES` queries among ``n`` vectors (ten results), in ms, and compute the recall of each index."""
    store, queries = build_store(folder, n, dimension), clustered_vectors(NUM_QUERIES, dimension, 10**9)
    indexes = {name: FaissIndex(store, name) for name in ("flat", "ivf-flat", "ivf-pq", "ivf-rabitq", "hnsw")}
    build = {name: _seconds(index.build) for name, index in indexes.items()}
    exact = exact_search(store, queries, 10)
    calls = {"exact": lambda: exact_search(store, queries, 10)}
    calls |= {name: lambda index=index: index.search(queries, 10) for name, index in indexes.items()}
    recall = {name: compute_recall(index.search(queries, 10), exact) for name, index in indexes.items()}
    size = {name: index.path.stat().st_size / 1e6 for name, index in indexes.items()}
    return {
        "n": n,
        "dimension": dimension,
        "ms": time_interleaved(calls, rounds),
        "build_s": build,
        "recall": recall,
        "MB": size,
    }


def measure_million(folder: Path, n: int = 1_000_000, dimension: int = 128, cells: int = 1024) -> dict:
    """Build and search an index of ``n`` vectors, at most 65,536 of which (for training) are in memory at once."""
    start = time.perf_counter()
    store = build_store(folder, n, dimension, half=True)
    write_seconds, index = time.perf_counter() - start, FaissIndex(store, "ivf-rabitq", cells)
    build_seconds, queries = (
        _seconds(lambda: index.build(max_training_vectors=65536)),
        clustered_vectors(NUM_QUERIES, dimension, 10**9),
    )
    recall = compute_recall(index.search(queries, 10, k_factor=20), exact_search(store, queries, 10))
    times = time_interleaved({"ivf-rabitq": lambda: index.search(queries, 10, k_factor=20)}, 3)
    return {
        "n": n,
        "dimension": dimension,
        "write_s": write_seconds,
        "build_s": build_seconds,
        "ms_per_query": times["ivf-rabitq"]["median"] / NUM_QUERIES,
        "recall": recall,
        "index_MB": index.path.stat().st_size / 1e6,
        "vectors_MB": sum(file.stat().st_size for file in folder.rglob("*.lance")) / 1e6,
        "peak_memory_MB": read_peak_memory(torch.device("cpu")) / 1e6,
    }


def build_store(folder: Path, n: int, dimension: int, half: bool = False, chunk_size: int = 50_000) -> VectorStore:
    """Write ``n`` clustered vectors to disk in chunks of ``chunk_size``."""
    store = VectorStore(folder, dimension, half=half)
    for start in range(0, n, chunk_size):
        names = [str(row) for row in range(start, min(n, start + chunk_size))]
        store.add(names, clustered_vectors(len(names), dimension, start))
    return store


def compute_recall(results: SearchResults, exact: SearchResults) -> float:
    """Return the fraction of the exact results that are among ``results``."""
    recalls = [len(set(a) & set(b)) / len(b) for a, b in zip(results.names, exact.names, strict=True)]
    return sum(recalls) / len(recalls)


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def build_tables(results: dict) -> list[dict]:
    """Build the tables of ``docs/results.md``."""
    calls = [(f"embed 16 images, {name}", ms) for name, ms in results["describe_16"].items()]
    calls += [(f"super-resolve, {name}", ms) for name, ms in results["lift"].items()]
    search = results["search_50"]
    rows = [
        {
            "index": name,
            "ms per query": round(ms["median"] / NUM_QUERIES, 2),
            "recall@10": search["recall"].get(name, 1.0),
            "build, s": round(search["build_s"].get(name, 0.0), 1),
            "MB": round(search["MB"].get(name, 0.0), 1),
        }
        for name, ms in search["ms"].items()
    ]
    tables = [
        {
            "caption": "Embedding and descriptor super-resolution",
            "rows": [{"operation": n, "ms": round(ms["median"], 2)} for n, ms in calls],
        },
        {
            "caption": f"{NUM_QUERIES} queries among {search['n']:,} vectors of dimension {search['dimension']}, ten results",
            "rows": rows,
        },
    ]
    large = [{name: round(value, 3) for name, value in results["million"].items()}] if "million" in results else []
    return tables + ([{"caption": "A million vectors, written and indexed in chunks", "rows": large}] if large else [])


def main() -> None:
    """Run all measurements on one thread."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", nargs="?", default=str(MOBILENET), help="Weights of MobileNetV2")
    parser.add_argument("--million", action="store_true")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    import faiss

    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    metadata = collect_metadata(torch.device("cpu"), f"python benchmarks/search.py {' '.join(sys.argv[1:])}")
    metadata["versions"] = {**metadata["versions"], "faiss": faiss.__version__}
    results: dict = {}
    with tempfile.TemporaryDirectory() as folder:
        if args.million:
            results["million"] = measure_million(Path(folder) / "million")
        results["describe_16"] = time_embedding(args.weights, args.rounds)
        results["lift"] = time_generators(args.rounds)
        results["search_50"] = time_search(Path(folder) / "small", 20_000, 512, args.rounds)
    print(write_result("search", build_tables(results), metadata, args.out, results))


if __name__ == "__main__":
    main()
