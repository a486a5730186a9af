"""What EFPN is compared with in ``benchmarks/efpn.py``, and on which pictures: everyone on one start, trained or only looked through."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch.nn.functional as nnf
from equal_steps import MOBILENET, SHARED
from torch import Tensor, nn

from featlift.detectors import extractor_of
from featlift.detectors.efpn import Exclusive, ExtendedExtractor, extend
from featlift.detectors.extractor import Extractor
from featlift.detectors.multi_scale import MultiScale
from featlift.detectors.sliced import Sliced
from featlift.detectors.sparse_level import WholeMap, Windows
from featlift.features import Features
from featlift.papers import baseline, efpn
from featlift.papers.baseline import Data, Stage
from featlift.papers.efpn import Distillation, Finer, Settings
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
        detector=Stage(350, baseline.quick_descent()),
        extension=Stage(60, baseline.quick_descent()),
        head=Stage(40, baseline.quick_descent(3e-4)),
    )
    return Case(replace(settings, data=replace(settings.data, batch=4)), slices=80, zoom=2.0, tile=4, measured=100)


def both_sizes() -> Case:
    """`scenes`, with a start that has seen pictures at both sizes, so that there is something to learn from it at twice the size."""
    return replace(scenes(), start=(160, 240, 320))


def gtsdb() -> Case:
    """German traffic signs, 680x400 shown at 490x288, nearly all small, and a MobileNetV2 with its ImageNet weights (frozen norms)."""
    model = replace(
        baseline.quick_model(),
        backbone="mobilenetv2_100",
        weights=str(MOBILENET),
        norm="frozen",
        frozen_stages=1,
        statistics=(0.5, 0.5),
        detector_options={**baseline.quick_model().detector_options, "test_size": [288, 490]},
    )
    settings = Settings(
        model=model,
        data=Data(str(SHARED / "gtsdb"), batch=2, short=(288,), longest=490, workers=0),
        finer=Finer(transfer_options={"width": 32}, limit=32.0),
        distillation=Distillation(crop=448),
        detector=Stage(200, baseline.quick_descent()),
        extension=Stage(50, baseline.quick_descent()),
        head=Stage(30, baseline.quick_descent(3e-4)),
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
    jittered = replace(settings, data=replace(settings.data, short=case.start or settings.data.short))
    start = plainly(jittered, settings.detector, folder / "start", seed)
    steps = settings.extension.steps + settings.head.steps
    longer = replace(settings.detector, steps=steps)
    ours = replace(settings, detector_from=str(folder / "start" / baseline.DETECTOR_FILE))
    found = {
        START: Contestant(start.detector),
        TRAINED_ON: plainly(ours, longer, folder / "fpn", seed),
        TWICE: Contestant(MultiScale(start.detector, (2.0,), flip=False)),
        "FPN, 2x picture, trained on": plainly(twice(ours), longer, folder / "fpn-2x", seed),
        "FPN + p2 of 2x picture": upper_bound(ours, folder / "upper-bound", seed),
        f"FPN, slices of {case.slices} px, 2x (sahi)": Contestant(
            Sliced(start.detector, baseline.pictures(settings.data, "val").classes, case.slices, case.zoom)
        ),
    }
    for name in transfers:
        finer = replace(
            settings.finer, transfer=name, transfer_options={} if name != "ftt" else settings.finer.transfer_options
        )
        found[f"EFPN, {name}"] = chained(replace(ours, finer=finer), folder / f"efpn-{name}", seed)
    first = found[f"EFPN, {transfers[0]}"]
    found[f"EFPN, {transfers[0]}, windows"] = replace(first, detector=in_windows(first.detector, case.tile))
    seen = in_windows(first.detector, case.tile, GLANCE)
    found[f"EFPN, {transfers[0]}, windows after a glance"] = replace(first, detector=seen)
    for one in found.values():
        one.detector.eval()
    return found


def plainly(settings: Settings, stage: Stage, folder: Path, seed: int) -> Contestant:
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
    shown = baseline.pictures(settings.data)
    M, _ = baseline.load(settings.detector_from)
    F = FromTwice(extractor_of(M))
    T = extend(M, nn.Identity(), Exclusive(settings.finer.limit), hard=settings.finer.hard)  # type: ignore[arg-type]
    T.backbone, T.roi_heads.reader = F, WholeMap(F.extended)
    with opened(folder, settings, seed) as run:
        efpn.second_head(T, settings, shown, run)
        return finished(T, run)


def opened(folder: Path, settings: Settings, seed: int) -> Run:
    """The run in ``folder``, new or found again."""
    return Run(folder, settings, seed, "cpu", save_every=50)


def finished(detector: nn.Module, run: Run) -> Contestant:
    """What came out of ``run``."""
    stages = run.stages().values()
    return Contestant(detector.eval(), sum(s["steps"] for s in stages), sum(s["minutes"] for s in stages))


def twice(settings: Settings) -> Settings:
    """The same with pictures of twice the size, in training and at the test."""
    short, longest = 2 * settings.data.short[0], 2 * settings.data.longest
    options = {**settings.model.detector_options, "test_size": [short, longest]}
    return replace(
        settings,
        model=replace(settings.model, detector_options=options),
        data=replace(settings.data, short=(short,), longest=longest),
    )


def in_windows(T: nn.Module, tile: int, glance: float = 0.0) -> nn.Module:
    """A copy of T that computes p2x only around small RoIs, or only around those that a glance does not call background."""
    other = copy.deepcopy(T)
    F, heads = efpn.parts(other)  # type: ignore[arg-type]
    heads.reader, heads.glance = Windows(F.extended, tile), glance
    return other
