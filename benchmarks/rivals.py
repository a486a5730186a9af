"""What EFPN is compared with in ``benchmarks/efpn.py``, and on which pictures: everyone on one start, trained or only looked through."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch.nn.functional as nnf
from equal_steps import MOBILENET, SHARED
from torch import Tensor, nn

from featlift.detectors import get_extractor
from featlift.detectors.efpn import ExclusiveRouting, ExtendedExtractor, extend_detector
from featlift.detectors.extractor import Extractor
from featlift.detectors.multi_scale import MultiScaleTTA
from featlift.detectors.sliced import SAHIDetector
from featlift.detectors.sparse_level import DenseReader, SparseReader
from featlift.features import Features
from featlift.papers import baseline, efpn
from featlift.papers.baseline import DataConfig, StageConfig
from featlift.papers.efpn import DistillationConfig, ExtendedLevelConfig, Settings
from featlift.training import Run

START = "FPN"
TRAINED_ON = "FPN, trained on"
TWICE = "FPN, 2x picture"
GLANCE = 0.02


@dataclass(frozen=True)
class Case:
    """What is compared on.

    Attributes:
        settings: of EFPN with its default transfer; the others differ from it by one thing.
        slices: side in px of the slices that sahi makes.
        zoom: factor of its usual size at which the detector sees a slice, so that all is twice as large as in the whole picture.
        tile: side of EFPN's windows in cells of stride 8.
        measured: how many validation pictures are measured on; 0 is all of them.
        start: short sides in px, drawn from while the start is trained; empty takes those of ``settings``.
    """

    settings: Settings
    slices: int
    zoom: float
    tile: int
    measured: int = 0
    start: tuple[int, ...] = ()


@dataclass(frozen=True)
class Contestant:
    """A detector, and the steps and minutes of training that it took after the start."""

    detector: nn.Module
    steps: int = 0
    minutes: float = 0.0


def scenes() -> Case:
    """Built-in scenes of 160 px, random weights."""
    settings = replace(
        Settings.quick(),
        detector=StageConfig(350, baseline.quick_optimizer()),
        extension=StageConfig(60, baseline.quick_optimizer()),
        head=StageConfig(40, baseline.quick_optimizer(3e-4)),
    )
    return Case(replace(settings, data=replace(settings.data, batch_size=4)), slices=80, zoom=2.0, tile=4, measured=100)


def both_sizes() -> Case:
    """`scenes`, with a start that has seen pictures at both sizes, so that there is something to learn from it at twice the size."""
    return replace(scenes(), start=(160, 240, 320))


def gtsdb() -> Case:
    """German traffic signs, 680x400 shown at 490x288, nearly all small, and a MobileNetV2 with its ImageNet weights (frozen norms)."""
    model = replace(
        baseline.quick_detector_config(),
        backbone="mobilenetv2_100",
        backbone_weights=str(MOBILENET),
        norm="frozen",
        frozen_stages=1,
        mean_std=(0.5, 0.5),
        detector_options={**baseline.quick_detector_config().detector_options, "test_size": [288, 490]},
    )
    settings = Settings(
        model=model,
        data=DataConfig(str(SHARED / "gtsdb"), batch_size=2, min_size=(288,), max_size=490, num_workers=0),
        extended_level=ExtendedLevelConfig(transfer_options={"width": 32}, small_roi_size=32.0),
        distillation=DistillationConfig(crop_size=448),
        detector=StageConfig(200, baseline.quick_optimizer()),
        extension=StageConfig(50, baseline.quick_optimizer()),
        head=StageConfig(30, baseline.quick_optimizer(3e-4)),
    )
    return Case(settings, slices=200, zoom=1.0, tile=8, measured=60)


CASES = {"scenes": scenes, "both_sizes": both_sizes, "gtsdb": gtsdb}


class FromTwice(ExtendedExtractor):
    """Table III's upper bound: p2x is p2 of the picture at twice the size. Nothing is learned for it but the new head."""

    def __init__(self, extractor: Extractor):
        super().__init__(extractor, nn.Identity())  # type: ignore[arg-type]

    def forward(self, image: Tensor) -> Features:
        """``[B, 3, H, W]`` → p2 … p6 of it, and ``p2x [B, C, H/2, W/2]``."""
        twice = nnf.interpolate(image, scale_factor=2.0, mode="bilinear", align_corners=False)
        maps = self.pyramid(self.backbone(image))
        return {**maps, "p2x": self.pyramid(self.backbone(twice))["p2"]}

    def extended(self, features: Features) -> Features:
        """What :meth:`forward` made already."""
        return {"p2x": features["p2x"]}


def everyone(case: Case, transfers: Sequence[str], folder: Path, seed: int) -> dict[str, Contestant]:
    """All that are compared, by name, trained with ``seed`` in folders of their own; what is finished is only loaded."""
    settings = case.settings
    jittered = replace(settings, data=replace(settings.data, min_size=case.start or settings.data.min_size))
    start = plainly(jittered, settings.detector, folder / "start", seed)
    steps = settings.extension.steps + settings.head.steps
    longer = replace(settings.detector, steps=steps)
    ours = replace(settings, detector_from=str(folder / "start" / baseline.DETECTOR_FILE))
    found = {
        START: Contestant(start.detector),
        TRAINED_ON: plainly(ours, longer, folder / "fpn", seed),
        TWICE: Contestant(MultiScaleTTA(start.detector, (2.0,), hflip=False)),
        "FPN, 2x picture, trained on": plainly(twice(ours), longer, folder / "fpn-2x", seed),
        "FPN + p2 of 2x picture": upper_bound(ours, folder / "upper-bound", seed),
        f"FPN, slices of {case.slices} px, 2x (sahi)": Contestant(
            SAHIDetector(start.detector, baseline.build_dataset(settings.data, "val").classes, case.slices, case.zoom)
        ),
    }
    for name in transfers:
        finer = replace(
            settings.extended_level,
            transfer=name,
            transfer_options={} if name != "ftt" else settings.extended_level.transfer_options,
        )
        found[f"EFPN, {name}"] = chained(replace(ours, extended_level=finer), folder / f"efpn-{name}", seed)
    first = found[f"EFPN, {transfers[0]}"]
    found[f"EFPN, {transfers[0]}, windows"] = replace(first, detector=in_windows(first.detector, case.tile))
    seen = in_windows(first.detector, case.tile, GLANCE)
    found[f"EFPN, {transfers[0]}, windows after a glance"] = replace(first, detector=seen)
    for one in found.values():
        one.detector.eval()
    return found


def plainly(settings: Settings, stage: StageConfig, folder: Path, seed: int) -> Contestant:
    """The detector by its own losses alone, from ``settings.detector_from`` on."""
    with opened(folder, settings, seed) as run:
        whole = baseline.Settings(settings.model, settings.data, stage, settings.detector_from)
        return finished(baseline.train(whole, run), run)


def chained(settings: Settings, folder: Path, seed: int) -> Contestant:
    """EFPN's phases 2 and 3."""
    with opened(folder, settings, seed) as run:
        return finished(efpn.train(settings, run), run)


def upper_bound(settings: Settings, folder: Path, seed: int) -> Contestant:
    """The start with a new head on :class:`FromTwice`, trained as EFPN's is."""
    shown = baseline.build_dataset(settings.data)
    M, _ = baseline.load_detector(settings.detector_from)
    F = FromTwice(get_extractor(M))
    T = extend_detector(
        M,
        nn.Identity(),
        ExclusiveRouting(settings.extended_level.small_roi_size),
        ohem_per_image=settings.extended_level.ohem_per_image,
    )  # type: ignore[arg-type]
    T.backbone, T.roi_heads.reader = F, DenseReader(F.extended)
    with opened(folder, settings, seed) as run:
        efpn.train_small_roi_head(T, settings, shown, run)
        return finished(T, run)


def opened(folder: Path, settings: Settings, seed: int) -> Run:
    """The run in ``folder``, new or found again."""
    return Run(folder, settings, seed, "cpu", save_every=50)


def finished(detector: nn.Module, run: Run) -> Contestant:
    """What came out of ``run``."""
    stages = run.stage_progress().values()
    return Contestant(detector.eval(), sum(s["steps"] for s in stages), sum(s["minutes"] for s in stages))


def twice(settings: Settings) -> Settings:
    """The same with pictures of twice the size, in training and at the test."""
    short, longest = 2 * settings.data.min_size[0], 2 * settings.data.max_size
    options = {**settings.model.detector_options, "test_size": [short, longest]}
    return replace(
        settings,
        model=replace(settings.model, detector_options=options),
        data=replace(settings.data, min_size=(short,), max_size=longest),
    )


def in_windows(T: nn.Module, tile: int, glance: float = 0.0) -> nn.Module:
    """A copy of T that computes p2x only around small RoIs, or only around those that a glance does not call background."""
    other = copy.deepcopy(T)
    F, heads = efpn.efpn_modules(other)  # type: ignore[arg-type]
    heads.roi_reader, heads.prefilter_score = SparseReader(F.extended_levels, tile), glance
    return other
