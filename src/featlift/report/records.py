"""What a report is told about a run: plain data, read from the run's folder or made by hand.

``result.json`` is what `featlift.training.Run.finish` writes::

    {"result": {"name": "afi-gan", "metrics": {"boxes": {"ap": 0.31, …}}, "cost": {…}},     # average_precision, Cost
     "minutes": 12.5, "settings": {…}, "seed": 0, "data": "8fe2…", "commit": …, "versions": {…}, "device": …}

``detections.json`` is a list of COCO results, ``log.jsonl`` has a line for each logged step, such as
``{"stage": "interpolator", "step": 10, "critic": 1.2, "content": 0.03}``. Only ``result.json`` must be there.
"""

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from featlift.evaluation.average_precision import Detection, Metrics
from featlift.evaluation.profiling import Latency, ModelProfile

NON_SCALAR_KEYS = ("stage", "step", "time", "epoch")

ScalarSeries = dict[int, float]
"""Step → value."""


@dataclass
class RunRecord:
    """One run, as far as a reader of the report cares."""

    name: str
    metrics: dict[str, Metrics] = field(default_factory=dict)
    profile: ModelProfile | None = None
    minutes: float | None = None
    log: list[dict[str, Any]] = field(default_factory=list)
    detections: list[Detection] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)

    def scalar_curves(self) -> dict[str, dict[str, ScalarSeries]]:
        """Stage → name of the scalar → its values over steps. Steps that a resumed run logged again count once, the
        last time.
        """
        stages: dict[str, dict[str, ScalarSeries]] = defaultdict(lambda: defaultdict(dict))
        for line in self.log:
            for name, value in line.items():
                if name not in NON_SCALAR_KEYS and isinstance(value, int | float):
                    stages[line.get("stage", "train")][name][line["step"]] = value
        return {
            stage: {name: dict(sorted(series.items())) for name, series in scalars.items()}
            for stage, scalars in stages.items()
        }


def read_run(folder: str | Path) -> RunRecord:
    """The record of the run in ``folder``.

    Raises:
        FileNotFoundError: if there is no ``result.json``.
        ValueError: if a file is not what this module's text says, with the file and the line.
    """
    folder = Path(folder)
    if not (folder / "result.json").exists():
        raise FileNotFoundError(
            f"{folder} has no result.json: a run writes it when it ends. Has this one been finished?"
        )
    whole = _read_json(folder / "result.json")
    result, log, detections = whole.get("result", {}), folder / "log.jsonl", folder / "detections.json"
    return RunRecord(
        result.get("name", folder.name),
        result.get("metrics", {}),
        _parse_cost(result["cost"]) if result.get("cost") else None,
        whole.get("minutes"),
        list(_read_log(log)) if log.exists() else [],
        _read_json(detections) if detections.exists() else [],
        whole.get("settings", {}),
        {name: value for name, value in whole.items() if name not in ("result", "minutes", "settings")},
    )


def _parse_cost(values: dict[str, Any]) -> ModelProfile:
    height, width = values["size"]
    return ModelProfile(**values | {"latency": Latency(**values["latency"]), "size": (height, width)})


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON: {error}.") from error


def _read_log(path: Path) -> Iterable[dict[str, Any]]:
    """The lines of a log. The last one may have been cut off by a kill; it is left out then."""
    lines = path.read_text().splitlines()
    for i, line in enumerate(lines):
        try:
            yield json.loads(line)
        except json.JSONDecodeError as error:
            if i + 1 < len(lines):
                raise ValueError(f"{path}, line {i + 1} is not JSON: {error}.") from error
