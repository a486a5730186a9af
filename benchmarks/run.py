"""Run benchmarks and store their results: ``python benchmarks/run.py [name …]`` → ``benchmarks/results/<name>.json``.

Candidates are timed in interleaved rounds of one process, so that disturbances of the machine affect all of them alike. Only ratios are
comparable between machines. ``python benchmarks/report.py`` writes the tables to ``docs/results.md``.
"""

import argparse
import json
import os
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from data_folder import shorten_paths
from memory_allocation import memory_allocation
from optimized_interpolators import heavy_interpolators, light_interpolators, optimized_interpolators
from stage1_step import stage1_step
from super_resolvers import super_resolvers

from featlift.checkpoints.json_io import to_jsonable
from featlift.training.provenance import collect_provenance
from interpolators import interpolators

RESULTS = Path(__file__).parent / "results"
SEED = 0

Table = dict[str, Any]
BENCHMARKS: dict[str, Callable[[torch.device, int], list[Table]]] = {
    "fast": optimized_interpolators,
    "heap": memory_allocation,
    "heavy": heavy_interpolators,
    "interpolators": interpolators,
    "light": light_interpolators,
    "stage1_step": stage1_step,
    "super_resolvers": super_resolvers,
}


def collect_metadata(device: torch.device, command: str) -> dict[str, Any]:
    """Return the provenance of results: command, commit, versions, device, threads, seed, date (UTC), and the prior load of the machine."""
    return {
        "command": command,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "seed": SEED,
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2),
        **collect_provenance(device),
    }


def write_result(
    name: str,
    tables: list[Table],
    metadata: Mapping[str, Any],
    folder: Path = RESULTS,
    details: Mapping[str, Any] | None = None,
) -> Path:
    """Write ``<folder>/<name>.json`` atomically and return its path.

    Each table is ``{"caption", "rows": [{column: value}]}``. ``details`` are further values, such as those of every seed; they are stored
    next to the tables under their own keys. Paths of this machine are shortened (:func:`~data_folder.shorten_paths`).
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    unfinished = path.with_suffix(".json.part")
    content = shorten_paths(to_jsonable({"tables": tables, "made": metadata, **(details or {})}))
    unfinished.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    return unfinished.replace(path)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"Benchmarks to run: {', '.join(BENCHMARKS)}; default: all")
    parser.add_argument("--rounds", type=int, default=5, help="Timed rounds, after two warm-up rounds")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="PyTorch threads on the CPU")
    parser.add_argument("--device", default="cpu", help="Device: cpu or cuda")
    args = parser.parse_args()
    unknown = sorted(set(args.names) - set(BENCHMARKS))
    if unknown:
        parser.error(f"unknown benchmark {', '.join(unknown)}; choose from {', '.join(BENCHMARKS)}")
    torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    for name in args.names or BENCHMARKS:
        torch.manual_seed(SEED)
        command = f"python benchmarks/run.py {name} --rounds {args.rounds} --threads {args.threads} --device {device}"
        metadata = collect_metadata(device, command)
        print(write_result(name, BENCHMARKS[name](device, args.rounds), metadata), flush=True)


if __name__ == "__main__":
    main()
