"""What image search costs, in interleaved rounds: describing, lifting, searching beside FAISS. →
benchmarks/results/search.json

    python benchmarks/search.py WEIGHTS [--million]

WEIGHTS is the file of MobileNetV2 in the sample data.

``--million`` builds an index of 1,000,000 vectors of 128 numbers in pieces and states time, size and peak memory.
"""

import argparse
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as nnf
from run import RESULTS, keep, made

from featlift.gallery import EmbedderConfig, build_embedder
from featlift.retrieval.exact_search import SearchResults, exact_search
from featlift.retrieval.faiss_index import FaissIndex
from featlift.retrieval.generator import DescriptorGenerator, ResidualGenerator, super_resolve_descriptors
from featlift.retrieval.vector_store import VectorStore

QUERIES = 50


def clustered(n: int, dimension: int, seed: int, centers: int = 2000) -> torch.Tensor:
    """Unit vectors ``[n, dimension]`` around ``centers`` directions that do not depend on the seed."""
    middle = torch.randn(centers, dimension, generator=torch.Generator().manual_seed(0))
    draw = torch.Generator().manual_seed(seed + 1)
    near = middle[torch.randint(centers, (n,), generator=draw)]
    return nnf.normalize(near + 0.7 * torch.randn(n, dimension, generator=draw), dim=1)


def interleaved(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds of each call: median, least and greatest of ``rounds``, all calls once in every round, after one to
    warm up.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            if turn:
                times[name].append(1000 * (time.perf_counter() - began))
    return {name: {"median": statistics.median(t), "least": min(t), "greatest": max(t)} for name, t in times.items()}


def describing(weights: str, rounds: int) -> dict:
    """Milliseconds for 16 pictures."""
    encodings = {
        "gist at 128": EmbedderConfig("gist", input_size=128),
        "MobileNetV2 at 128": EmbedderConfig("mobilenetv2_100", weights, input_size=128),
    }
    encodings["MobileNetV2 at 224"] = EmbedderConfig("mobilenetv2_100", weights, input_size=224)
    every = {name: build_embedder(encoding)[0] for name, encoding in encodings.items()}
    return interleaved(
        {n: lambda F=F: F(torch.rand(16, 3, F.input_size, F.input_size)) for n, F in every.items()}, rounds
    )


def lifting(rounds: int) -> dict:
    """Milliseconds for one descriptor and for 64."""
    generators = {
        "paper, 4096": (DescriptorGenerator().eval(), 4096),
        "residual 1024, 1280": (ResidualGenerator(1280).eval(), 1280),
    }
    asked = {f"{name}, batch {n}": (G, torch.rand(n, D)) for name, (G, D) in generators.items() for n in (1, 64)}
    return interleaved({name: lambda one=one: super_resolve_descriptors(*one) for name, one in asked.items()}, rounds)


def searching(folder: Path, n: int, dimension: int, rounds: int) -> dict:
    """Milliseconds for :data:`QUERIES` among ``n`` vectors, ten answers each, and how many of the exact ten are found."""
    store, queries = stored(folder, n, dimension), clustered(QUERIES, dimension, 10**9)
    kinds = {kind: FaissIndex(store, kind) for kind in ("flat", "ivf-flat", "ivf-pq", "ivf-rabitq", "hnsw")}
    build = {kind: _seconds(index.build) for kind, index in kinds.items()}
    exact = exact_search(store, queries, 10)
    calls = {"exact": lambda: exact_search(store, queries, 10)}
    calls |= {kind: lambda index=index: index.search(queries, 10) for kind, index in kinds.items()}
    recall = {kind: recalled(index.search(queries, 10), exact) for kind, index in kinds.items()}
    size = {kind: index.path.stat().st_size / 1e6 for kind, index in kinds.items()}
    return {
        "n": n,
        "dimension": dimension,
        "ms": interleaved(calls, rounds),
        "build_s": build,
        "recall": recall,
        "MB": size,
    }


def million(folder: Path, n: int = 1_000_000, dimension: int = 128, cells: int = 1024) -> dict:
    """Building and searching ``n`` vectors that never are in memory together (but for 65,536 for training)."""
    began = time.perf_counter()
    store = stored(folder, n, dimension, half=True)
    written, index = time.perf_counter() - began, FaissIndex(store, "ivf-rabitq", cells)
    built, queries = _seconds(lambda: index.build(max_training_vectors=65536)), clustered(QUERIES, dimension, 10**9)
    found = recalled(index.search(queries, 10, k_factor=20), exact_search(store, queries, 10))
    times = interleaved({"ivf-rabitq": lambda: index.search(queries, 10, k_factor=20)}, 3)
    return {
        "n": n,
        "dimension": dimension,
        "write_s": written,
        "build_s": built,
        "ms_per_query": times["ivf-rabitq"]["median"] / QUERIES,
        "recall": found,
        "index_MB": index.path.stat().st_size / 1e6,
        "vectors_MB": sum(file.stat().st_size for file in folder.glob("*.npy")) / 1e6,
        "peak_memory_MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
    }


def stored(folder: Path, n: int, dimension: int, half: bool = False, piece: int = 50_000) -> VectorStore:
    """``n`` clustered vectors on disk, made and written ``piece`` at a time."""
    store = VectorStore(folder, dimension, half=half)
    for start in range(0, n, piece):
        names = [str(row) for row in range(start, min(n, start + piece))]
        store.add(names, clustered(len(names), dimension, start))
    return store


def recalled(near: SearchResults, exact: SearchResults) -> float:
    """The share of the exact answers that are among ``near``."""
    shared = [len(set(a) & set(b)) / len(b) for a, b in zip(near.names, exact.names, strict=True)]
    return sum(shared) / len(shared)


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def tables(found: dict) -> list[dict]:
    """For ``docs/results.md``."""
    calls = [(f"describe 16 pictures, {name}", ms) for name, ms in found["describe_16"].items()]
    calls += [(f"lift, {name}", ms) for name, ms in found["lift"].items()]
    among = found["search_50"]
    rows = [
        {
            "index": name,
            "ms a query": round(ms["median"] / QUERIES, 2),
            "recall of the exact ten": among["recall"].get(name, 1.0),
            "build, s": round(among["build_s"].get(name, 0.0), 1),
            "MB": round(among["MB"].get(name, 0.0), 1),
        }
        for name, ms in among["ms"].items()
    ]
    shown = [
        {"caption": "Describing and lifting", "rows": [{"what": n, "ms": round(ms["median"], 2)} for n, ms in calls]},
        {
            "caption": f"{QUERIES} queries among {among['n']:,} vectors of {among['dimension']} numbers, ten answers",
            "rows": rows,
        },
    ]
    large = [{name: round(value, 3) for name, value in found["million"].items()}] if "million" in found else []
    return shown + ([{"caption": "A million vectors, written and built in pieces", "rows": large}] if large else [])


def main() -> None:
    """Everything, on one thread."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights")
    parser.add_argument("--million", action="store_true")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    import faiss

    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    about = made(torch.device("cpu"), f"python benchmarks/search.py {' '.join(sys.argv[1:])}")
    about["versions"] = {**about["versions"], "faiss": faiss.__version__}
    found: dict = {}
    with tempfile.TemporaryDirectory() as folder:
        if given.million:
            found["million"] = million(Path(folder) / "million")
        found["describe_16"] = describing(given.weights, given.rounds)
        found["lift"] = lifting(given.rounds)
        found["search_50"] = searching(Path(folder) / "small", 20_000, 512, given.rounds)
    print(keep("search", tables(found), about, given.out, found))


if __name__ == "__main__":
    main()
