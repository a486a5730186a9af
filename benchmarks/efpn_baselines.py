"""Baselines of EFPN in ``benchmarks/efpn.py`` and the datasets of the comparison; all share one base detector."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch.nn.functional as nnf
from data_folder import DATA, MOBILENET
from sliced_inference import SAHIDetector
from torch import Tensor, nn

from featlift import baseline
from featlift.data.config import DataConfig, build_dataset
from featlift.detectors import get_extractor
from featlift.detectors.checkpoint import DETECTOR_FILE, load_detector
from featlift.detectors.config import quick_detector_config
from featlift.detectors.efpn import ExclusiveRouting, ExtendedExtractor, distill_extended_level
from featlift.detectors.efpn_config import efpn_modules
from featlift.detectors.extractor import Extractor
from featlift.detectors.multi_scale import MultiScaleTTA
from featlift.detectors.sparse_level import DenseReader, SparseReader
from featlift.features import Features
from featlift.papers import efpn
from featlift.papers.efpn.settings import DistillationConfig, ExtendedLevelConfig, Settings
from featlift.papers.efpn.training import train_small_roi_head
from featlift.training import Run
from featlift.training.schedules import StageConfig, quick_optimizer

BASE = "FPN"
LONGER = "FPN, longer training"
DOUBLE_SIZE = "FPN, 2x image"
PREFILTER_SCORE = 0.02


@dataclass(frozen=True)
class Case:
    """A dataset and the settings of the comparison.

    Attributes:
        settings: Settings of EFPN with its default transfer; each other candidate differs in one aspect.
        slice_size: Side of SAHI's slices in pixels.
        slice_scale: Scale of a slice relative to the usual input size, such that objects are twice as large as in the whole image.
        tile_size: Side of EFPN's tiles in cells of stride 8.
        num_images: Number of validation images; 0 is all of them.
        base_min_sizes: Short sides in pixels for the training of the base detector; empty uses those of ``settings``.
    """

    settings: Settings
    slice_size: int
    slice_scale: float
    tile_size: int
    num_images: int = 0
    base_min_sizes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Candidate:
    """A detector with its training steps and minutes after the base detector."""

    detector: nn.Module
    steps: int = 0
    minutes: float = 0.0


def scenes() -> Case:
    """Synthetic scenes of 160 px, random weights."""
    settings = replace(
        Settings.quick(),
        detector=StageConfig(350, quick_optimizer()),
        extension=StageConfig(60, quick_optimizer()),
        head=StageConfig(40, quick_optimizer(3e-4)),
    )
    return Case(
        replace(settings, data=replace(settings.data, batch_size=4)),
        slice_size=80,
        slice_scale=2.0,
        tile_size=4,
        num_images=100,
    )


def both_sizes() -> Case:
    """`scenes` with a base detector trained on both image sizes, so that its features at 2x are a useful target."""
    return replace(scenes(), base_min_sizes=(160, 240, 320))


def gtsdb() -> Case:
    """German traffic signs, 680x400 resized to 490x288, nearly all small, and an ImageNet-pretrained MobileNetV2 (frozen norms)."""
    model = replace(
        quick_detector_config(),
        backbone="mobilenetv2_100",
        backbone_weights=str(MOBILENET),
        norm="frozen",
        frozen_stages=1,
        mean_std=(0.5, 0.5),
        detector_options={**quick_detector_config().detector_options, "test_size": [288, 490]},
    )
    settings = Settings(
        model=model,
        data=DataConfig(str(DATA / "gtsdb"), batch_size=2, min_size=(288,), max_size=490, num_workers=0),
        extended_level=ExtendedLevelConfig(transfer_options={"hidden_channels": 32}, small_roi_size=32.0),
        distillation=DistillationConfig(crop_size=448),
        detector=StageConfig(200, quick_optimizer()),
        extension=StageConfig(50, quick_optimizer()),
        head=StageConfig(30, quick_optimizer(3e-4)),
    )
    return Case(settings, slice_size=200, slice_scale=1.0, tile_size=8, num_images=60)


CASES = {"scenes": scenes, "both_sizes": both_sizes, "gtsdb": gtsdb}


class UpperBoundExtractor(ExtendedExtractor):
    """Upper bound of Table III: p2x is p2 of the image at twice the size. Only the new head is trained."""

    def __init__(self, extractor: Extractor):
        super().__init__(extractor, nn.Identity())  # type: ignore[arg-type]

    def forward(self, image: Tensor) -> Features:
        """Return p2 … p6 of ``image [B, 3, H, W]``, and ``p2x [B, C, H/2, W/2]``."""
        enlarged = nnf.interpolate(image, scale_factor=2.0, mode="bilinear", align_corners=False)
        maps = self.pyramid(self.backbone(image))
        return {**maps, "p2x": self.pyramid(self.backbone(enlarged))["p2"]}

    def extended_levels(self, features: Features) -> Features:
        """Return p2x of :meth:`forward`."""
        return {"p2x": features["p2x"]}


def train_candidates(case: Case, transfers: Sequence[str], folder: Path, seed: int) -> dict[str, Candidate]:
    """Train all candidates with ``seed`` in subfolders of ``folder``; finished runs are loaded."""
    settings = case.settings
    base_data = replace(settings.data, min_size=case.base_min_sizes or settings.data.min_size)
    base = train_detector(replace(settings, data=base_data), settings.detector, folder / "start", seed)
    steps = settings.extension.steps + settings.head.steps
    longer = replace(settings.detector, steps=steps)
    from_base = replace(settings, detector_from=str(folder / "start" / DETECTOR_FILE))
    classes = build_dataset(settings.data, "val").classes
    candidates = {
        BASE: Candidate(base.detector),
        LONGER: train_detector(from_base, longer, folder / "fpn", seed),
        DOUBLE_SIZE: Candidate(MultiScaleTTA(base.detector, (2.0,), hflip=False)),
        f"{DOUBLE_SIZE}, longer training": train_detector(double_size(from_base), longer, folder / "fpn-2x", seed),
        "FPN + p2 of 2x image": train_upper_bound(from_base, folder / "upper-bound", seed),
        f"FPN, slices of {case.slice_size} px, 2x (SAHI)": Candidate(
            SAHIDetector(base.detector, classes, case.slice_size, case.slice_scale)
        ),
    }
    for name in transfers:
        extended_level = replace(
            settings.extended_level,
            transfer=name,
            transfer_options={} if name != "ftt" else settings.extended_level.transfer_options,
        )
        candidates[f"EFPN, {name}"] = train_efpn(
            replace(from_base, extended_level=extended_level), folder / f"efpn-{name}", seed
        )
    first = candidates[f"EFPN, {transfers[0]}"]
    tiled = tiled_copy(first.detector, case.tile_size)
    prefiltered = tiled_copy(first.detector, case.tile_size, PREFILTER_SCORE)
    candidates[f"EFPN, {transfers[0]}, tiles"] = replace(first, detector=tiled)
    candidates[f"EFPN, {transfers[0]}, tiles after a prefilter"] = replace(first, detector=prefiltered)
    for candidate in candidates.values():
        candidate.detector.eval()
    return candidates


def train_detector(settings: Settings, stage: StageConfig, folder: Path, seed: int) -> Candidate:
    """Train the detector with its own losses, starting from ``settings.detector_from``."""
    with open_run(folder, settings, seed) as run:
        baseline_settings = baseline.Settings(settings.model, settings.data, stage, settings.detector_from)
        return make_candidate(baseline.train(baseline_settings, run), run)


def train_efpn(settings: Settings, folder: Path, seed: int) -> Candidate:
    """Train phases 2 and 3 of EFPN."""
    with open_run(folder, settings, seed) as run:
        return make_candidate(efpn.train(settings, run), run)


def train_upper_bound(settings: Settings, folder: Path, seed: int) -> Candidate:
    """Train a new head of the base detector on :class:`UpperBoundExtractor`, as for EFPN."""
    dataset = build_dataset(settings.data)
    M, _ = load_detector(settings.detector_from)
    F = UpperBoundExtractor(get_extractor(M))
    T = distill_extended_level(
        M,
        nn.Identity(),
        ExclusiveRouting(settings.extended_level.small_roi_size),
        ohem_per_image=settings.extended_level.ohem_per_image,
    )  # type: ignore[arg-type]
    T.backbone, T.roi_heads.roi_reader = F, DenseReader(F.extended_levels)
    with open_run(folder, settings, seed) as run:
        train_small_roi_head(T, settings, dataset, run)
        return make_candidate(T, run)


def open_run(folder: Path, settings: Settings, seed: int) -> Run:
    """Open or resume the run in ``folder``."""
    return Run(folder, settings, seed, "cpu", save_every=50)


def make_candidate(detector: nn.Module, run: Run) -> Candidate:
    """Return the trained detector with the steps and minutes of ``run``."""
    stages = run.stage_progress().values()
    return Candidate(detector.eval(), sum(s["steps"] for s in stages), sum(s["minutes"] for s in stages))


def double_size(settings: Settings) -> Settings:
    """Return ``settings`` with images of twice the size in training and in evaluation."""
    short, longest = 2 * settings.data.min_size[0], 2 * settings.data.max_size
    options = {**settings.model.detector_options, "test_size": [short, longest]}
    return replace(
        settings,
        model=replace(settings.model, detector_options=options),
        data=replace(settings.data, min_size=(short,), max_size=longest),
    )


def tiled_copy(T: nn.Module, tile_size: int, prefilter_score: float = 0.0) -> nn.Module:
    """Return a copy of T that computes p2x only in tiles around small RoIs with at least ``prefilter_score``."""
    copied = copy.deepcopy(T)
    F, heads = efpn_modules(copied)  # type: ignore[arg-type]
    heads.roi_reader, heads.prefilter_score = SparseReader(F.extended_levels, tile_size), prefilter_score
    return copied
