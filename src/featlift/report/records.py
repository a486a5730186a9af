"""Record of a run for reports: plain data, read from the folder of the run or built by the caller.

`featlift.training.Run.write_result` writes ``result.json``::

    {"result": {"name": "afi-gan", "metrics": {"boxes": {"ap": 0.31, …}}, "profile": {…}},     # Metrics, ModelProfile
     "minutes": 12.5, "settings": {…}, "seed": 0, "data": "8fe2…", "commit": …, "versions": {…}, "device": …}

``detections.json`` is a list of COCO results, ``log.jsonl`` has one line per logged step, such as
``{"stage": "interpolator", "step": 10, "discriminator": 1.2, "content": 0.03}``. Only ``result.json`` is required.
"""

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from featlift.evaluation.coco_metrics import Detection, Metrics
from featlift.profiling import Latency, ModelProfile

NON_SCALAR_KEYS = ("stage", "step", "time", "epoch")

ScalarSeries = dict[int, float]
"""Step → value."""


@dataclass
class RunRecord:
    """Name, metrics, cost, logs and settings of one run."""

    name: str
    metrics: dict[str, Metrics] = field(default_factory=dict)
    profile: ModelProfile | None = None
    minutes: float | None = None
    log: list[dict[str, Any]] = field(default_factory=list)
    detections: list[Detection] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)

    def scalar_curves(self) -> dict[str, dict[str, ScalarSeries]]:
        """Return stage → scalar name → values by step; of steps that a resumed run logged twice, the last value counts."""
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
    """Read the record of the run in ``folder``.

    Raises:
        FileNotFoundError: If there is no ``result.json``.
        ValueError: If a file is not valid JSON; the message names the file and the line.
    """
    folder = Path(folder)
    if not (folder / "result.json").exists():
        raise FileNotFoundError(f"{folder} has no result.json, which a run writes when it ends. Is this run finished?")
    content = _read_json(folder / "result.json")
    result, log, detections = content.get("result", {}), folder / "log.jsonl", folder / "detections.json"
    return RunRecord(
        result.get("name", folder.name),
        result.get("metrics", {}),
        _parse_profile(result["profile"]) if result.get("profile") else None,
        content.get("minutes"),
        list(_read_log(log)) if log.exists() else [],
        _read_json(detections) if detections.exists() else [],
        content.get("settings", {}),
        {name: value for name, value in content.items() if name not in ("result", "minutes", "settings")},
    )


def _parse_profile(values: dict[str, Any]) -> ModelProfile:
    height, width = values["image_size"]
    return ModelProfile(**values | {"latency": Latency(**values["latency"]), "image_size": (height, width)})


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON: {error}.") from error


def _read_log(path: Path) -> Iterable[dict[str, Any]]:
    """Yield the lines of a log; an incomplete last line (of a killed run) is skipped."""
    lines = path.read_text().splitlines()
    for i, line in enumerate(lines):
        try:
            yield json.loads(line)
        except json.JSONDecodeError as error:
            if i + 1 < len(lines):
                raise ValueError(f"{path}, line {i + 1} is not JSON: {error}.") from error
