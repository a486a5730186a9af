"""The folder of a training run. Passing the same folder again resumes the run.

``settings.json``: settings · ``run.json``: start time, code version and device · ``log.jsonl``: losses ·
``checkpoint/<stage>/``: checkpoints · ``result.json``: the result, with a summary of the above.
"""

import json
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import nn

from featlift.checkpoints.atomic import remove_temporary_files, write_atomic
from featlift.checkpoints.damage import read_json
from featlift.checkpoints.folder_lock import FolderLock
from featlift.checkpoints.json_io import flatten_dict, to_jsonable, write_json
from featlift.registry import check_choice
from featlift.training import checkpointing, distributed
from featlift.training.provenance import collect_provenance
from featlift.training.seeds import seed_everything
from featlift.training.trackers import open_tracker, select_numbers

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Run:
    """Folder, seed, device and precision of a training run; under ``torchrun`` also its rank and world size.

    The constructor seeds all random generators, so modules built afterwards are equal in all processes. Use the run as
    a context (``with Run(…) as run:``) or call `close`, so that the process group is shut down. Only rank 0 writes files.

    Args:
        folder: Run folder, created if missing. A run with the same settings is resumed; one without a checkpoint is
            restarted. One process (of ``torchrun``: one group) may train in it at a time.
        settings: Dataclass or mapping, stored in ``settings.json`` with ``seed`` and ``precision``.
        seed: Random seed.
        device: Device: "auto" (a GPU if available), "cpu", "cuda", "cuda:1".
        precision: Precision of the training step: "fp32", or autocast to "bf16" or "fp16" (with gradient scaling).
        save_every: Steps between checkpoints; one is also written at the end of a stage and when the run is
            interrupted.
        log_every: Steps per log record, which holds their mean losses.
        tracker: Experiment tracker that also gets losses and results, one of `featlift.training.trackers.TRACKERS`, or "none".

    Raises:
        ValueError: If the folder holds a run with different settings (they are listed), or if the precision or device
            does not exist.
        FolderLockedError: If another process trains in the folder.
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
        tracker: str = "none",
    ) -> None:
        check_choice(precision, PRECISIONS, "precision")
        if min(save_every, log_every) < 1:
            raise ValueError(
                f"save_every is {save_every} and log_every {log_every}; both are numbers of steps, at least 1."
            )
        self.folder, self.seed, self.precision = Path(folder), seed, precision
        self.save_every, self.log_every = save_every, log_every
        self.evaluate_every = 0
        """Steps between evaluations during the training of a detector (`featlift.baseline.best_checkpoint`); 0 for none."""
        self.device = distributed.init_distributed(device)
        self.rank, self.world_size = distributed.get_rank(), distributed.get_world_size()
        self.settings = {**to_jsonable(settings or {}), "seed": seed, "precision": precision}
        self._lock = self._lock_folder()
        self._create_or_resume()
        self._tracker = (
            open_tracker(tracker, self.folder, self.settings) if tracker != "none" and self.rank == 0 else None
        )
        seed_everything(seed)

    def _lock_folder(self) -> FolderLock | None:
        """Lock the folder in rank 0 and clean it of what killed processes left; raise in all ranks if it is locked."""
        lock, error = None, None
        if self.rank == 0:
            try:
                lock = FolderLock(self.folder)
                remove_temporary_files(self.folder)
                for stage in (self.folder / "checkpoint").glob("*/"):
                    checkpointing.remove_leftovers(stage)
            except OSError as caught:
                error = caught
        error = distributed.broadcast_object(error)
        if error is not None:
            raise error
        return lock

    def _create_or_resume(self) -> None:
        path = self.folder / "settings.json"
        if self.rank == 0 and not (path.exists() and self.stage_progress()):
            write_json(
                self.folder / "run.json", {"started": _timestamp(), **collect_provenance(self.device, self.world_size)}
            )
            write_json(path, self.settings)
        distributed.barrier()
        stored = read_json(path, "Delete this file to resume with the settings given now.")
        _check_same_settings(self.folder, stored, json.loads(json.dumps(self.settings)))

    def __enter__(self) -> "Run":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(succeeded=kind is None)

    def close(self, succeeded: bool = True) -> None:
        """Close the tracker, whose run has ``succeeded``, release the folder and shut down the process group."""
        if self._tracker is not None:
            self._tracker.close(succeeded)
            self._tracker = None
        if self._lock is not None:
            self._lock.release()
        distributed.shutdown_distributed()

    def to_device(self, module: nn.Module) -> nn.Module:
        """Move ``module`` to the run's device, with the weights of rank 0 in all processes; for teachers and other modules
        that are not trained.
        """
        module.to(self.device)
        distributed.broadcast_tensors([*module.parameters(), *module.buffers()])
        return module

    def barrier(self) -> None:
        """Wait until all ranks have reached this line."""
        distributed.barrier()

    def checkpoint_folder(self, stage: str) -> Path:
        """Return the folder of the checkpoints of ``stage``."""
        return self.folder / "checkpoint" / stage

    def log(self, record: Mapping[str, Any]) -> None:
        """Append ``record`` (with keys "stage" and "step") as a line to ``log.jsonl``, and its numbers to the tracker."""
        if self.rank != 0:
            return
        with open(self.folder / "log.jsonl", "a") as file:
            file.write(json.dumps(record) + "\n")
        if self._tracker is not None:
            values = {name: value for name, value in record.items() if isinstance(value, float)}
            self._tracker.log(record["stage"], record["step"], values)

    def read_log(self, stage: str | None = None) -> list[dict[str, Any]]:
        """Return the records of ``log.jsonl``, of ``stage`` or of all stages; an incomplete line of a killed process is
        skipped.
        """
        path = self.folder / "log.jsonl"
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        records = [json.loads(line) for line in lines if line.endswith("}\n")]
        return [r for r in records if stage in (None, r["stage"])]

    def truncate_log(self, stage: str, step: int) -> None:
        """Remove the records of ``stage`` after ``step`` from ``log.jsonl``: a resumed run logs them again."""
        if self.rank != 0 or not (self.folder / "log.jsonl").exists():
            return
        records = [r for r in self.read_log() if r["stage"] != stage or r["step"] <= step]
        write_atomic(self.folder / "log.jsonl", "".join(json.dumps(r) + "\n" for r in records))

    def stage_progress(self) -> dict[str, dict[str, Any]]:
        """Return, for each stage with a checkpoint, ``{"step", "steps", "peak_memory" (bytes), "minutes"}``."""
        stages = {}
        for folder in sorted((self.folder / "checkpoint").glob("*/")):
            progress = checkpointing.read_last_progress(folder)
            if progress is not None:
                counts = {key: progress[key] for key in ("step", "steps", "peak_memory") if key in progress}
                stages[folder.name] = counts | {"minutes": progress["seconds"] / 60}
        return stages

    def write_result(self, result: Mapping[str, Any], data_fingerprint: str | None = None) -> dict[str, Any]:
        """Write ``result.json`` with ``result``, ``data_fingerprint``, settings and provenance; return its contents."""
        stages = self.stage_progress()
        record = {
            "result": to_jsonable(result),
            "data": data_fingerprint,
            "settings": self.settings,
            "seed": self.seed,
            "stages": stages,
            "minutes": sum(stage["minutes"] for stage in stages.values()),
            **read_json(self.folder / "run.json"),
            "finished": _timestamp(),
        }
        if self.rank == 0:
            write_json(self.folder / "result.json", record)
        if self._tracker is not None:
            self._tracker.log_result(select_numbers(record["result"]))
        return record


def _timestamp() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _check_same_settings(folder: Path, stored: Mapping[str, Any], requested: Mapping[str, Any]) -> None:
    old, new = flatten_dict(stored), flatten_dict(requested)
    if "paper" in old and old["paper"] != new.get("paper"):
        raise ValueError(f"{folder} holds a run of {old['paper']}; give another --run.")
    # a setting that a later version added changes nothing while it is off
    new = {name: value for name, value in new.items() if name in old or value}
    changed = [name for name in dict.fromkeys([*old, *new]) if old.get(name, "–") != new.get(name, "–")]
    if changed:
        rows = "\n".join(f"  {name}: {old.get(name, '–')!s} stored, {new.get(name, '–')!s} given" for name in changed)
        raise ValueError(
            f"{folder} holds a run with other settings:\n{rows}\n"
            "Give the same settings to resume it, use another folder, or delete this folder."
        )
