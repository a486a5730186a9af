"""Training of a student by distillation, resumable, on the CPU."""

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from yolox_cache import MapCache
from yolox_losses import (
    DistillationSettings,
    distillation_losses,
    find_small_objects,
    read_batch,
    sample_crops,
    total_loss,
)
from yolox_network import YOLOXNano
from yolox_students import build_student

REPORT_EVERY, SAVE_EVERY = 250, 500
"""Steps."""


class TrainingState:
    """Student, averaged student, optimizer, schedule and records of a run, and its checkpoint ``folder/<run_name>.pt``."""

    def __init__(self, network: YOLOXNano, settings: DistillationSettings, folder: Path):
        torch.manual_seed(settings.seed)
        self.settings, self.path = settings, folder / f"{run_name(settings)}.pt"
        self.model = build_student(settings.student, network, settings.options).to(memory_format=torch.channels_last)
        if settings.initial_weights:
            initial, _ = load_student(Path(settings.initial_weights), network)
            self.model.load_state_dict(initial.state_dict(), strict=False)
        self.average = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(settings.ema_decay))
        self.parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = build_optimizer(self.model, settings)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: learning_rate_factor(step, settings)
        )
        self.records: dict[str, Any] = {"step": 0, "curve": [], "evaluations": [], "seconds": 0.0}
        if self.path.exists():
            self._resume()

    def _parts(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("model", "average", "optimizer", "schedule")}

    def _resume(self) -> None:
        checkpoint = torch.load(self.path, weights_only=False)
        self.records = checkpoint["records"]
        for name, part in self._parts().items():
            part.load_state_dict(checkpoint[name])

    def save(self) -> None:
        """Write the checkpoint atomically."""
        states = {name: part.state_dict() for name, part in self._parts().items()}
        unfinished = self.path.with_suffix(".tmp")
        torch.save({"records": self.records, "settings": asdict(self.settings), **states}, unfinished)
        os.replace(unfinished, self.path)

    def update(self, loss: Tensor) -> None:
        """One optimizer step."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 5.0)
        self.optimizer.step()
        self.schedule.step()
        self.average.update_parameters(self.model)
        self.records["step"] += 1


@dataclass
class CurveRecorder:
    """Mean losses and CPU time of every `REPORT_EVERY` steps, appended to ``records``."""

    records: dict[str, Any]
    label: str
    sums: dict[str, float] = field(default_factory=dict)
    cpu_start: float = field(default_factory=time.process_time)

    def add(self, losses: dict[str, Tensor]) -> None:
        """Add the losses of one step."""
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + value.item()
        if self.records["step"] % REPORT_EVERY == 0:
            self._report()

    def _report(self) -> None:
        now = time.process_time()
        self.records["seconds"] += now - self.cpu_start
        means = {name: round(value / REPORT_EVERY, 4) for name, value in self.sums.items()}
        self.records["curve"].append({"step": self.records["step"]} | means)
        self.sums, self.cpu_start = {}, now
        print(self.label, self.records["curve"][-1], f"{self.records['seconds']:.0f} s CPU", flush=True)


def train_student(
    network: YOLOXNano,
    cache: MapCache,
    settings: DistillationSettings,
    folder: Path,
    evaluate_at: Sequence[int],
    evaluate: Callable[[nn.Module], dict[str, Any]],
) -> dict[str, Any]:
    """Train a student and return its records.

    A checkpoint is written every `SAVE_EVERY` steps; an interrupted run is resumed. ``evaluate(averaged student)`` is recorded at
    the steps ``evaluate_at``.
    """
    state = TrainingState(network, settings, folder)
    records, recorder = state.records, CurveRecorder(state.records, run_name(settings))
    small_objects = load_small_objects(cache, settings.target, folder)
    names = list(dict.fromkeys([*state.model.inputs, "enlarged_dark3", "enlarged_reduce_conv1", "enlarged_c3_p3"]))
    names.append(settings.target)
    rng = np.random.default_rng((settings.seed, records["step"]))
    crops = sample_crops(cache, settings.crop_size, small_objects, rng)
    while records["step"] < settings.steps:
        batch, mask = read_batch(cache, names, [next(crops) for _ in range(settings.batch_size)], settings.crop_size)
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.precision == "bfloat16"):
            losses = distillation_losses(network, state.model(batch), batch, mask, settings.target)
        state.update(total_loss(losses, settings))
        recorder.add(losses)
        if records["step"] in evaluate_at:
            records["evaluations"].append({"step": records["step"]} | evaluate(state.average.module))
            print(run_name(settings), records["evaluations"][-1], flush=True)
        if records["step"] % SAVE_EVERY == 0 or records["step"] == settings.steps:
            state.save()
    return records


def build_optimizer(model: nn.Module, settings: DistillationSettings) -> torch.optim.Optimizer:
    """AdamW; copies of the detector's blocks have a tenth of the learning rate and no weight decay."""
    copies = list(getattr(model, "copies", nn.Module()).parameters())
    is_copy = {id(parameter) for parameter in copies}
    others = [p for p in model.parameters() if p.requires_grad and id(p) not in is_copy]
    groups: list[dict[str, Any]] = [{"params": others}]
    if copies:
        groups.append({"params": copies, "lr": settings.learning_rate / 10, "weight_decay": 0.0})
    return torch.optim.AdamW(groups, settings.learning_rate, weight_decay=settings.weight_decay)


def learning_rate_factor(step: int, settings: DistillationSettings) -> float:
    """Factor of the learning rate: linear warm-up, constant until half of the steps, then a cosine to 0."""
    progress = min(1.0, max(0.0, 2 * step / settings.steps - 1))
    return min(1.0, (step + 1) / settings.warmup_steps) * 0.5 * (1 + math.cos(math.pi * progress))


def run_name(settings: DistillationSettings) -> str:
    """Name of a run's checkpoint: ``lateral_2000_seed0``, with options and another target than the default."""
    options = "".join(
        f"_{key}-{'+'.join(map(str, value)) if isinstance(value, list | tuple) else value}"
        for key, value in settings.options.items()
    )
    target = "" if settings.target == "enlarged_output" else f"_{settings.target}"
    return f"{settings.student.replace(':', '-')}{options}{target}_{settings.steps}_seed{settings.seed}"


def load_student(path: Path, network: YOLOXNano) -> tuple[nn.Module, dict[str, Any]]:
    """Return the averaged student of a checkpoint, and the checkpoint."""
    checkpoint = torch.load(path, weights_only=False)
    model = build_student(checkpoint["settings"]["student"], network, checkpoint["settings"]["options"])
    weights = {name.removeprefix("module."): value for name, value in checkpoint["average"].items()}
    del weights["n_averaged"]
    model.load_state_dict(weights)
    return model.requires_grad_(True), checkpoint


def load_small_objects(cache: MapCache, name: str, folder: Path) -> list[NDArray[np.int64]]:
    """`find_small_objects`, computed once per folder."""
    path = folder / f"small_objects_{name}.pt"
    if not path.exists():
        torch.save(find_small_objects(cache, name), path)
    return torch.load(path, weights_only=False)
