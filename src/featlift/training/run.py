"""The folder of a training: everything about it is there, and the same folder again means: go on.

``settings.json`` what was asked for · ``run.json`` where, when and with which code · ``log.jsonl`` losses ·
``checkpoint/<stage>/`` · ``result.json`` what came out, with all of the above in short.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy
import torch
from torch import Tensor, nn

from featlift.training import checkpointing, distributed
from featlift.training.provenance import provenance
from featlift.training.seeds import seeded

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Run:
    """A training's folder, seed, device and precision; under ``torchrun`` also its place among the processes.

    Making one seeds all random draws, so that modules built afterwards are alike in every process. Use it as a context
    (``with Run(…) as run:``) or call `close`, so that many processes part in order. Only process 0 writes.

    Args:
        folder: made if it is missing; one with a run of the same settings is continued, one without a checkpoint begun again.
        settings: a dataclass or a mapping; kept in ``settings.json`` with ``seed`` and ``precision``.
        seed: of everything that is drawn.
        device: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1".
        precision: of the step: "fp32", or autocast to "bf16" or "fp16" (the latter with scaled gradients).
        save_every: steps between checkpoints; one is also written at the end of a stage and when the run is
            interrupted.
        log_every: steps whose mean makes a line of the log.
        tensorboard: write TensorBoard files, too (``pip install 'featlift[tracking]'``).

    Raises:
        ValueError: if the folder holds a run with different settings (they are listed), or precision or device do not
            exist.
    """

    def __init__(
        self,
        folder: str | Path,
        settings: object = None,
        seed: int = 0,
        device: str = "auto",
        precision: str = "fp32",
        save_every: int = 500,
        log_every: int = 20,
        tensorboard: bool = False,
    ) -> None:
        if precision not in PRECISIONS:
            raise ValueError(f"Unknown precision '{precision}'; choose one of {', '.join(PRECISIONS)}.")
        if min(save_every, log_every) < 1:
            raise ValueError(
                f"save_every is {save_every} and log_every {log_every}; both are numbers of steps, at least 1."
            )
        self.folder, self.seed, self.precision = Path(folder), seed, precision
        self.save_every, self.log_every = save_every, log_every
        self.device = distributed.start(device)
        self.rank, self.world = distributed.rank(), distributed.world()
        self.settings = {**plain(settings or {}), "seed": seed, "precision": precision}
        self._open()
        self._tensorboard = _tensorboard(self.folder) if tensorboard and self.rank == 0 else None
        seeded(seed)

    def _open(self) -> None:
        path = self.folder / "settings.json"
        if self.rank == 0 and not (path.exists() and self.stages()):
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(self.folder / "run.json", {"started": _now(), **provenance(self.device, self.world)})
            write_json(path, self.settings)
        distributed.wait()
        _refuse_difference(self.folder, json.loads(path.read_text()), json.loads(json.dumps(self.settings)))

    def __enter__(self) -> "Run":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close what is open, and leave the other processes."""
        if self._tensorboard is not None:
            self._tensorboard.close()
        distributed.stop()

    def place(self, module: nn.Module) -> nn.Module:
        """``module`` on the run's device, the same in every process: for teachers and whatever else does not learn."""
        module.to(self.device)
        distributed.alike([*module.parameters(), *module.buffers()])
        return module

    def checkpoints(self, stage: str) -> Path:
        """The folder of the checkpoints of ``stage``."""
        return self.folder / "checkpoint" / stage

    def log(self, record: Mapping[str, Any]) -> None:
        """Append ``record`` (it has "stage" and "step") as a line of ``log.jsonl``, and to TensorBoard if asked for."""
        if self.rank != 0:
            return
        with open(self.folder / "log.jsonl", "a") as file:
            file.write(json.dumps(record) + "\n")
        if self._tensorboard is not None:
            for name, value in record.items():
                if isinstance(value, float):
                    self._tensorboard.add_scalar(f"{record['stage']}/{name}", value, record["step"])

    def trace(self, stage: str | None = None) -> list[dict[str, Any]]:
        """The records of ``log.jsonl``, of ``stage`` or of all; a line that a killed process left unfinished is not
        one.
        """
        path = self.folder / "log.jsonl"
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        records = [json.loads(line) for line in lines if line.endswith("}\n")]
        return [r for r in records if stage in (None, r["stage"])]

    def rewind(self, stage: str, step: int) -> None:
        """Forget what ``log.jsonl`` says of ``stage`` after ``step``: a resumed run will say it again."""
        if self.rank != 0 or not (self.folder / "log.jsonl").exists():
            return
        kept = [r for r in self.trace() if r["stage"] != stage or r["step"] <= step]
        _write(self.folder / "log.jsonl", "".join(json.dumps(r) + "\n" for r in kept))

    def stages(self) -> dict[str, dict[str, Any]]:
        """For each stage that has a checkpoint: steps done, steps in all, the minutes they took, and bytes of memory at the peak."""
        found = {}
        for folder in sorted((self.folder / "checkpoint").glob("*/")):
            newest = checkpointing.newest(folder)
            if newest is not None:
                progress = checkpointing.progress_of(newest)
                known = {key: progress[key] for key in ("step", "steps", "memory") if key in progress}
                found[folder.name] = known | {"minutes": progress["seconds"] / 60}
        return found

    def finish(self, result: Mapping[str, Any], data: str | None = None) -> dict[str, Any]:
        """Write ``result.json``: ``result``, the fingerprint of the ``data``, and where all of it came from; returns
        it.
        """
        stages = self.stages()
        whole = {
            "result": plain(result),
            "data": data,
            "settings": self.settings,
            "seed": self.seed,
            "stages": stages,
            "minutes": sum(stage["minutes"] for stage in stages.values()),
            **json.loads((self.folder / "run.json").read_text()),
            "ended": _now(),
        }
        if self.rank == 0:
            write_json(self.folder / "result.json", whole)
        return whole


def plain(value: Any) -> Any:
    """``value`` in JSON's words: dataclasses and mappings as dicts, tuples as lists, paths and devices as strings,
    tensors as numbers.
    """
    if is_dataclass(value):
        return plain({field.name: getattr(value, field.name) for field in fields(value)})
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [plain(v) for v in (sorted(value) if isinstance(value, set) else value)]
    if isinstance(value, (Tensor, numpy.ndarray, numpy.generic)):
        return value.tolist()
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as JSON; the file is the old one or the new one, never half of either."""
    _write(path, json.dumps(plain(value), indent=2, ensure_ascii=False) + "\n")


def _write(path: Path, text: str) -> None:
    writing = path.with_name(f".{path.name}.{os.getpid()}")
    writing.write_text(text)
    writing.replace(path)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _refuse_difference(folder: Path, there: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    old, new = _flat(there), _flat(now)
    differ = [name for name in dict.fromkeys([*old, *new]) if old.get(name, "–") != new.get(name, "–")]
    if differ:
        rows = "\n".join(f"  {name}: {old.get(name, '–')!s} there, {new.get(name, '–')!s} now" for name in differ)
        raise ValueError(
            f"{folder} holds a run with other settings:\n{rows}\n"
            "Give the same settings to go on with it, another folder to start anew, or delete the folder."
        )


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, item in value.items():
        flat |= _flat(item, f"{prefix}{key}.") if isinstance(item, Mapping) else {f"{prefix}{key}": item}
    return flat


def _tensorboard(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ImportError("TensorBoard files were asked for; pip install 'featlift[tracking]'.") from error
    return SummaryWriter(str(folder / "tensorboard"))
