"""Runs benchmarks and keeps what they measured: ``python benchmarks/run.py [name …]`` → ``benchmarks/results/<name>.json``.

Whatever is compared is measured in turns within one run, so that what disturbs the machine disturbs all alike. Only ratios travel from
one machine to another. ``python benchmarks/report.py`` puts the tables into ``docs/results.md``.
"""

import argparse
import json
import os
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from fast import fast, heavy, light
from heap import heap
from stage1_step import stage1_step
from super_resolvers import super_resolvers

from featlift.training.provenance import collect_provenance
from featlift.training.run import to_jsonable
from interpolators import interpolators

RESULTS = Path(__file__).parent / "results"
SEED = 0

Table = dict[str, Any]
BENCHMARKS: dict[str, Callable[[torch.device, int], list[Table]]] = {
    "fast": fast,
    "heap": heap,
    "heavy": heavy,
    "interpolators": interpolators,
    "light": light,
    "stage1_step": stage1_step,
    "super_resolvers": super_resolvers,
}


def made(device: torch.device, command: str) -> dict[str, Any]:
    """Where and when numbers were made: commit, versions, device, threads, seed, date (UTC), and how busy the machine was before."""
    return {
        "command": command,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "seed": SEED,
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2),
        **collect_provenance(device),
    }


def keep(
    name: str,
    tables: list[Table],
    metadata: Mapping[str, Any],
    folder: Path = RESULTS,
    details: Mapping[str, Any] | None = None,
) -> Path:
    """Writes ``<folder>/<name>.json``, to a temporary name first. Each table is ``{"caption", "rows": [{column: value}]}``.

    ``details`` are numbers that no table shows, such as every seed's; they stand beside the tables under their own names.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    draft = path.with_suffix(".json.part")
    whole = to_jsonable({"tables": tables, "made": metadata, **(details or {})})
    draft.write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n")
    return draft.replace(path)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"benchmarks to run, of {', '.join(BENCHMARKS)}; all without")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count, after two that do not")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads of PyTorch on the CPU")
    parser.add_argument("--device", default="cpu", help="where to run: cpu or cuda")
    given = parser.parse_args()
    unknown = sorted(set(given.names) - set(BENCHMARKS))
    if unknown:
        parser.error(f"there is no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    torch.set_num_threads(given.threads)
    device = torch.device(given.device)
    for name in given.names or BENCHMARKS:
        torch.manual_seed(SEED)
        metadata = made(
            device,
            f"python benchmarks/run.py {name} --rounds {given.rounds} --threads {given.threads} --device {device}",
        )
        print(keep(name, BENCHMARKS[name](device, given.rounds), metadata), flush=True)


if __name__ == "__main__":
    main()
