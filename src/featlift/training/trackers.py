"""Experiment trackers behind one interface: TensorBoard, Weights & Biases and MLflow, each an optional package.

A tracker gets the records of ``log.jsonl`` and, at the end, the numbers of ``result.json``. All work without a network: TensorBoard
writes into the run folder, Weights & Biases offline into the run folder, MLflow into ``mlruns`` next to the run folder.
"""

import json
import math
import netrc
import os
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from featlift.checkpoints.json_io import flatten_dict, write_json
from featlift.registry import check_choice

PROJECT = "featlift"
"""Name of the Weights & Biases project and of the MLflow experiment."""
_TRACKER_FILE = "tracker.json"
_MLFLOW_BATCH = 100


class Tracker(Protocol):
    """Destination of losses and results. ``stage`` groups the values of one training stage; ``step`` counts within it."""

    def log(self, stage: str, step: int, values: Mapping[str, float]) -> None:
        """Write the ``values`` of ``step``."""
        ...

    def log_result(self, values: Mapping[str, float]) -> None:
        """Write the final metrics."""
        ...

    def close(self, succeeded: bool) -> None:
        """Finish the run; ``succeeded`` is False if it was interrupted or failed."""
        ...


class TensorBoardTracker:
    """Event files in ``<run folder>/tensorboard``; show them with ``tensorboard --logdir runs``."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise _missing("tensorboard", "TensorBoard", "featlift[tracking]") from error
        self._writer = SummaryWriter(str(folder / "tensorboard"))
        self._writer.add_text("settings", f"```json\n{json.dumps(settings, indent=2)}\n```")

    def log(self, stage: str, step: int, values: Mapping[str, float]) -> None:
        """Write scalars ``stage/name``."""
        for name, value in values.items():
            self._writer.add_scalar(f"{stage}/{name}", value, step)

    def log_result(self, values: Mapping[str, float]) -> None:
        """Write scalars ``result/name`` at step 0."""
        self.log("result", 0, values)

    def close(self, succeeded: bool) -> None:
        """Close the event file."""
        self._writer.close()


class WandbTracker:
    """Run of the Weights & Biases project `PROJECT`; its name is that of the run folder.

    Without an API key the run is written offline into ``<run folder>/wandb``, for ``wandb sync``. ``WANDB_MODE``, ``WANDB_PROJECT``
    and the other variables of Weights & Biases apply. A resumed training continues the same run.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        try:
            import wandb
        except ImportError as error:
            raise _missing("wandb", "Weights & Biases", "featlift[wandb]") from error
        mode = os.environ.get("WANDB_MODE") or ("online" if _has_wandb_key() else "offline")
        if mode == "offline":
            _wait_for_new_second(folder / "wandb")
            print(f"Weights & Biases is offline; upload with: wandb sync {folder / 'wandb'}/offline-run-*")
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=folder.name,
            id=_load_run_id(folder, "wandb", lambda: secrets.token_hex(4)),
            resume="allow" if mode == "online" else None,
            dir=str(folder),
            config=dict(settings),
            mode=mode,  # pyright: ignore[reportArgumentType]
            settings=wandb.Settings(console="off"),
        )
        self._stages: set[str] = set()

    def log(self, stage: str, step: int, values: Mapping[str, float]) -> None:
        """Write ``stage/name``, plotted against ``stage/step``."""
        if stage not in self._stages:
            self._stages.add(stage)
            self._run.define_metric(f"{stage}/*", step_metric=f"{stage}/step")
        self._run.log({f"{stage}/step": step, **{f"{stage}/{name}": value for name, value in values.items()}})

    def log_result(self, values: Mapping[str, float]) -> None:
        """Write ``result/name`` into the run's summary."""
        self._run.summary.update({f"result/{name}": value for name, value in values.items()})

    def close(self, succeeded: bool) -> None:
        """Finish the run."""
        self._run.finish(exit_code=0 if succeeded else 1)


class MlflowTracker:
    """Run of the MLflow experiment `PROJECT`; its name is that of the run folder, its parameters are the settings.

    Runs are written to ``MLFLOW_TRACKING_URI`` if it is set, else to the folder ``mlruns`` next to the run folder, which
    ``mlflow ui --backend-store-uri runs/mlruns`` shows. A resumed training continues the same run.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        try:
            from mlflow import MlflowClient
        except ImportError as error:
            raise _missing("mlflow", "MLflow", "featlift[mlflow]") from error
        uri = os.environ.get("MLFLOW_TRACKING_URI") or (folder.absolute().parent / "mlruns").as_uri()
        if uri.startswith("file:"):
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # MLflow 3 refuses local folders without it
        self._client = MlflowClient(uri)
        self._id = _load_run_id(folder, "mlflow", lambda: self._create_run(folder.name, settings))
        self._client.update_run(self._id, status="RUNNING")

    def log(self, stage: str, step: int, values: Mapping[str, float]) -> None:
        """Write the metrics ``stage/name``."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(f"{stage}/{_mlflow_name(name)}", value, now, step) for name, value in values.items()]
        for start in range(0, len(metrics), _MLFLOW_BATCH):
            self._client.log_batch(self._id, metrics=metrics[start : start + _MLFLOW_BATCH])

    def log_result(self, values: Mapping[str, float]) -> None:
        """Write the metrics ``result/name``."""
        self.log("result", 0, values)

    def close(self, succeeded: bool) -> None:
        """Set the status of the run: finished or killed."""
        self._client.set_terminated(self._id, "FINISHED" if succeeded else "KILLED")

    def _create_run(self, name: str, settings: Mapping[str, Any]) -> str:
        from mlflow.entities import Param

        experiment = self._client.get_experiment_by_name(PROJECT)
        run = self._client.create_run(
            experiment.experiment_id if experiment else self._client.create_experiment(PROJECT), run_name=name
        )
        params = [Param(_mlflow_name(key), str(value)[:6000]) for key, value in flatten_dict(settings).items()]
        for start in range(0, len(params), _MLFLOW_BATCH):
            self._client.log_batch(run.info.run_id, params=params[start : start + _MLFLOW_BATCH])
        return run.info.run_id


TRACKERS: dict[str, Callable[[Path, Mapping[str, Any]], Tracker]] = {
    "tensorboard": TensorBoardTracker,
    "wandb": WandbTracker,
    "mlflow": MlflowTracker,
}


def open_tracker(name: str, folder: Path, settings: Mapping[str, Any]) -> Tracker:
    """Open the tracker ``name`` of `TRACKERS` for the run ``folder``; ``settings`` are stored with it.

    Raises:
        ValueError: If there is no such tracker.
        ImportError: naming the extra to install, if its package is missing.
    """
    check_choice(name, TRACKERS, "tracker")
    return TRACKERS[name](folder, settings)


def select_numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """Numbers of nested ``values`` by dotted name, ``{"metrics.boxes.ap": 0.3}``; texts, lists and values that are not finite are left
    out, trackers cannot plot them.
    """
    flat = flatten_dict(values)
    numbers = {
        name: value for name, value in flat.items() if isinstance(value, (int, float)) and not isinstance(value, bool)
    }
    return {name: float(value) for name, value in numbers.items() if math.isfinite(value)}


def _load_run_id(folder: Path, tracker: str, create: Callable[[], str]) -> str:
    """Id of the tracker's run that belongs to ``folder``; the first call creates and stores it."""
    path = folder / _TRACKER_FILE
    ids = json.loads(path.read_text()) if path.is_file() else {}
    if tracker not in ids:
        ids[tracker] = create()
        write_json(path, ids)
    return ids[tracker]


def _wait_for_new_second(folder: Path) -> None:
    """Wait while an offline run in ``folder`` has started in this second: Weights & Biases names offline runs by the second of their
    start and their id, so a run that resumes at once would overwrite the file of the first.
    """
    while any(folder.glob(f"offline-run-{time.strftime('%Y%m%d_%H%M%S')}-*")):
        time.sleep(0.05)


def _has_wandb_key() -> bool:
    """Whether Weights & Biases can log in: an API key in the environment or in the user's netrc file."""
    host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").partition("://")[2].strip("/")
    try:
        return bool(os.environ.get("WANDB_API_KEY") or netrc.netrc().authenticators(host))
    except (OSError, netrc.NetrcParseError):
        return False


def _mlflow_name(name: str) -> str:
    """``name`` with the characters that MLflow does not accept replaced by "_"."""
    return "".join(c if c.isalnum() or c in "_-. /" else "_" for c in name)


def _missing(tracker: str, package: str, extra: str) -> ImportError:
    return ImportError(f"--tracker {tracker} needs {package}; pip install '{extra}'.")
