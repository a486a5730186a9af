"""What image search costs, in interleaved rounds: describing, lifting, searching beside FAISS. →
benchmarks/results/search.json

    python benchmarks/search.py [WEIGHTS of MobileNetV2] [--million]

``--million`` builds an index of 1,000,000 vectors of 128 numbers in pieces and states time, size and peak memory.
"""

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as nnf
from run import made

from featlift.gallery import Encoding, describer
from featlift.retrieval.approximate import ApproximateIndex
from featlift.retrieval.generator import DescriptorGenerator, ResidualGenerator, lifted
from featlift.retrieval.index import search
from featlift.retrieval.store import VectorStore
from featlift.training.run import write_json

RESULT = Path(__file__).parent / "results" / "search.json"


def clustered(n: int, dimension: int, seed: int, centres: int = 2000) -> torch.Tensor:
    """Unit vectors ``[n, dimension]`` around ``centres`` directions that do not depend on the seed."""
    middle = torch.randn(centres, dimension, generator=torch.Generator().manual_seed(0))
    draw = torch.Generator().manual_seed(seed + 1)
    near = middle[torch.randint(centres, (n,), generator=draw)]
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
        "gist at 128": Encoding("gist", size=128),
        "MobileNetV2 at 128": Encoding("mobilenetv2_100", weights, size=128),
    }
    encodings["MobileNetV2 at 224"] = Encoding("mobilenetv2_100", weights, size=224)
    made = {name: describer(encoding)[0] for name, encoding in encodings.items()}
    return interleaved({n: lambda F=F: F(torch.rand(16, 3, F.size, F.size)) for n, F in made.items()}, rounds)


def lifting(rounds: int) -> dict:
    """Milliseconds for one descriptor and for 64."""
    made = {
        "paper, 4096": (DescriptorGenerator().eval(), 4096),
        "residual 1024, 1280": (ResidualGenerator(1280).eval(), 1280),
    }
    asked = {f"{name}, batch {n}": (G, torch.rand(n, D)) for name, (G, D) in made.items() for n in (1, 64)}
    return interleaved({name: lambda one=one: lifted(*one) for name, one in asked.items()}, rounds)


def searching(folder: Path, n: int, dimension: int, rounds: int) -> dict:
    """Milliseconds for 50 queries among ``n`` vectors, ten answers each, and how many of the exact ten are found."""
    store = VectorStore(folder, dimension)
    for start in range(0, n, 50_000):
        store.add(
            [str(i) for i in range(start, min(n, start + 50_000))], clustered(min(50_000, n - start), dimension, start)
        )
    queries = clustered(50, dimension, 10**9)
    kinds = {kind: ApproximateIndex(store, kind) for kind in ("flat", "ivf-flat", "ivf-pq", "ivf-rabitq", "hnsw")}
    build = {kind: _seconds(index.build) for kind, index in kinds.items()}
    exact = search(store, queries, 10).names
    calls = {"exact": lambda: search(store, queries, 10)}
    calls |= {kind: lambda index=index: index.search(queries, 10) for kind, index in kinds.items()}
    near = {kind: index.search(queries, 10).names for kind, index in kinds.items()}
    recall = {
        k: sum(len(set(a) & set(b)) for a, b in zip(names, exact, strict=True)) / 500 for k, names in near.items()
    }
    size = {kind: index.file.stat().st_size / 1e6 for kind, index in kinds.items()}
    return {
        "n": n,
        "dimension": dimension,
        "ms": interleaved(calls, rounds),
        "build_s": build,
        "recall": recall,
        "MB": size,
    }


def million(folder: Path, n: int = 1_000_000, dimension: int = 128) -> dict:
    """Building and searching ``n`` vectors that never are in memory together (but for 65,536 for training)."""
    store, began = VectorStore(folder, dimension, half=True), time.perf_counter()
    for start in range(0, n, 100_000):
        store.add([str(i) for i in range(start, start + 100_000)], clustered(100_000, dimension, start))
    written, index = time.perf_counter() - began, ApproximateIndex(store, "ivf-rabitq", cells=1024)
    built = _seconds(lambda: index.build(sample=65536))
    queries = clustered(50, dimension, 10**9)
    exact, near = search(store, queries, 10), index.search(queries, 10, widen=20)
    found = sum(len(set(a) & set(b)) for a, b in zip(near.names, exact.names, strict=True)) / 500
    vectors = sum(file.stat().st_size for file in folder.glob("*.npy")) / 1e6
    return {
        "n": n,
        "dimension": dimension,
        "write_s": written,
        "build_s": built,
        "ms_per_query": interleaved({"ivf-rabitq": lambda: index.search(queries, 10, widen=20)}, 3)["ivf-rabitq"][
            "median"
        ]
        / 50,
        "recall": found,
        "index_MB": index.file.stat().st_size / 1e6,
        "vectors_MB": vectors,
        "peak_memory_MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
    }


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
            "ms a query": round(ms["median"] / 50, 2),
            "recall of the exact ten": among["recall"].get(name, 1.0),
            "build, s": round(among["build_s"].get(name, 0.0), 1),
            "MB": round(among["MB"].get(name, 0.0), 1),
        }
        for name, ms in among["ms"].items()
    ]
    made = [
        {"caption": "Describing and lifting", "rows": [{"what": n, "ms": round(ms["median"], 2)} for n, ms in calls]},
        {
            "caption": f"50 queries among {among['n']:,} vectors of {among['dimension']} numbers, ten answers",
            "rows": rows,
        },
    ]
    large = [{name: round(value, 3) for name, value in found["million"].items()}] if "million" in found else []
    return made + ([{"caption": "A million vectors, written and built in pieces", "rows": large}] if large else [])


def main() -> None:
    """Everything, on one thread."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", nargs="?", default="")
    parser.add_argument("--million", action="store_true")
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    import faiss

    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    facts = made(torch.device("cpu"), "python benchmarks/search.py" + " --million" * given.million) | {
        "faiss": faiss.__version__
    }
    result: dict = {}
    with tempfile.TemporaryDirectory() as folder:
        if given.million:
            result["million"] = million(Path(folder) / "million")
        result["describe_16"] = describing(given.weights, given.rounds)
        result["lift"] = lifting(given.rounds)
        result["search_50"] = searching(Path(folder) / "small", 20_000, 512, given.rounds)
    write_json(RESULT, {"tables": tables(result), "made": facts, **result})
    print(RESULT.read_text())


if __name__ == "__main__":
    main()
