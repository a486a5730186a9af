"""FDSR (Wang et al., "Feature-driven super-resolution for object detection", ICIP 2020): pictures enlarged for a detector's eye.

G is the super-resolution network, F the frozen trunk of a detector (F_ext of Sec. 2.2), T a detector. G learns from a picture and its
quarter: half the L1 distance of the pixels and the mean square distance of F's features (Eqs. 1 to 3). At test time there is no F: the
enlarged picture goes to any detector as it is.

No code was published. Where the paper leaves something open (means or sums, squared or not, which layer) `docs/papers/fdsr.md` says what
was chosen. Two later rivals are options of the same step: TDSR's detection loss (``Terms.detection``) and SR4IR's alternation with a
detector that learns too (``Settings.together``).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from featlift.checkpoints import save, write_tensors
from featlift.checkpoints.tensors import read_metadata
from featlift.data.augment import RandomHorizontalFlip
from featlift.data.batches import ResumableDataLoader
from featlift.data.crops import RandomCrop, select_large_images
from featlift.data.dataset import ImageDataset
from featlift.data.image_folder import UnlabeledImageFolder
from featlift.detectors.feature_extraction import FeatureExtractor
from featlift.detectors.feature_hooks import (
    detector_feature_extractor,
    eval_mode,
    eval_mode_losses,
    pretrained_detector,
    pretrained_feature_extractor,
)
from featlift.detectors.super_resolved import SRDetector
from featlift.features import Features
from featlift.image_sr.checkpoint import SUPER_RESOLVER_FILE
from featlift.image_sr.degradation import DegradationConfig, build_degradation
from featlift.image_sr.network import SuperResolverConfig, build_super_resolver
from featlift.losses import feature_mse, pixel_l1
from featlift.papers import baseline
from featlift.papers.baseline import StageConfig
from featlift.resolution import cross_resolution, frozen_copy
from featlift.training import Learner, OptimizerConfig, Run, fit

Target = dict[str, Tensor]
LossDict = dict[str, Tensor]


@dataclass(frozen=True)
class FeatureExtractorConfig:
    """F: where features are compared.

    Attributes:
        network: a run folder or detector file of ours, a name of torchvision's ("maskrcnn_resnet50_fpn", "vgg19"; its weights are
            downloaded once), or one of timm's.
        layers: "c4" and "p3" mean the same in every detector; anything else is the dotted name of a module (`taps.features_at`).
            VGG19-54 is "vgg19" with "features.34".
    """

    network: str = "maskrcnn_resnet50_fpn"
    layers: tuple[str, ...] = ("c4",)


@dataclass(frozen=True)
class LossWeights:
    """What G descends on (Eq. 3), and in which form.

    Attributes:
        pixels: α (Sec. 3.2); 0 leaves the features alone.
        features: β; 0 is plain super-resolution.
        detection: weight of the frozen detector's own losses (TDSR, Haris et al. 2018); needs objects and a detector as prior.
        power: 2 for mean squares, 1 for their root (Eq. 2 as printed).
        scale_free: features' distance relative to their size, so that α : β suits any F.
    """

    pixels: float = 0.5
    features: float = 1.0
    detection: float = 0.0
    power: int = 2
    scale_free: bool = False


@dataclass(frozen=True)
class CropDataConfig:
    """What G learns from.

    Attributes:
        root: a folder of pictures, a folder in COCO's form, or "scenes".
        crop_size: side of the windows in px; smaller pictures are left out (Sec. 3.1). The fourth stage of a ResNet sees 267 px.
        batch_size: windows per step.
        num_images: pictures drawn from those large enough; 0 takes all.
        hflip_prob: chance of mirroring left to right.
        num_workers: processes that read pictures.
    """

    root: str = "coco"
    crop_size: int = 384
    batch_size: int = 8
    num_images: int = 20_000
    hflip_prob: float = 0.5
    num_workers: int = 2


@dataclass(frozen=True)
class Settings:
    """FDSR as published: D-DBPN at 4x, Mask R-CNN's c4, 2 million steps of eight windows of 384 px.

    Attributes:
        network: G. prior: F. terms: losses. decay: how pictures lose more than size. data: pictures and windows.
        train: Adam 1e-4, no decay (Sec. 3.1).
        detector_optimizer: how the detector learns in turn with G (SR4IR, Kim et al. 2024); None keeps it as it is, as the paper does.
    """

    network: SuperResolverConfig = field(default_factory=SuperResolverConfig)
    feature_extractor: FeatureExtractorConfig = field(default_factory=FeatureExtractorConfig)
    loss_weights: LossWeights = field(default_factory=LossWeights)
    degradation: DegradationConfig = field(default_factory=DegradationConfig)
    data: CropDataConfig = field(default_factory=CropDataConfig)
    train: StageConfig = field(
        default_factory=lambda: StageConfig(2_000_000, OptimizerConfig("adam", 1e-4, weight_decay=0.0))
    )
    detector_optimizer: OptimizerConfig | None = None

    @classmethod
    def short(cls) -> "Settings":
        """One GPU and a night: 100,000 steps with a cosine, blocks recomputed."""
        descent = OptimizerConfig("adam", 1e-4, weight_decay=0.0, schedule="cosine")
        return cls(network=SuperResolverConfig(gradient_checkpointing=True), train=StageConfig(100_000, descent))

    @classmethod
    def quick(cls) -> "Settings":
        """The laptop's: a network that starts as bicubic, windows of 96 px, minutes on two cores; ``prior.network`` is a run folder."""
        return cls(
            network=SuperResolverConfig("compact"),
            feature_extractor=FeatureExtractorConfig("runs/detector", ("c4",)),
            loss_weights=LossWeights(scale_free=True),
            data=CropDataConfig("scenes", crop_size=96, batch_size=8, num_workers=0),
            train=StageConfig(
                600,
                OptimizerConfig("adam", 1e-3, weight_decay=0.0, warmup_steps=20, schedule="cosine", max_grad_norm=10.0),
            ),
        )


def train(settings: Settings, run: Run) -> nn.Module:
    """Train G in ``run`` and save it as ``super_resolver.safetensors``; the same run again goes on or only loads.

    With ``settings.together`` the detector that learned with it is saved beside it, as ``detector.safetensors``.
    """
    G = build_super_resolver(settings.network)
    stream = build_crop_loader(settings.data, run.seed)
    if settings.detector_optimizer is None:
        train_super_resolver(G, settings, stream, run)
    else:
        T = load_reference_detector(settings.feature_extractor.network)
        train_jointly(G, T, settings, stream, run)
        save_joint_detector(T, settings.feature_extractor.network, run.folder)
    save(G, run.folder / SUPER_RESOLVER_FILE)
    return G


def save_joint_detector(T: nn.Module, source: str, folder: Path) -> Path:
    """Write T, which came from the run folder or file ``source`` and learned on, as ``detector.safetensors`` that can be loaded again.

    Torchvision's detectors are written without a description: their name is in ``settings.json``.
    """
    origin = Path(source) / baseline.DETECTOR_FILE if Path(source).is_dir() else Path(source)
    return write_tensors(
        folder / baseline.DETECTOR_FILE, T.state_dict(), read_metadata(origin) if origin.exists() else {}
    )


def train_super_resolver(G: nn.Module, settings: Settings, loader: ResumableDataLoader, run: Run) -> None:
    """Eq. 4: G descends on the terms between its picture and the original, seen by a frozen F."""
    painter = Learner(G, settings.train.optimizer, settings.train.steps)
    judges = _build_loss(settings, run)
    degrade = build_degradation(settings.network.scale, settings.degradation)

    def step(images: list[Tensor], targets: list[Target]) -> LossDict:
        student, teacher = cross_resolution(
            judges.extract, lambda low: judges.extract(G(low)), torch.stack(images), degrade
        )
        return painter.step(judges.losses(student, teacher, targets))

    fit(step, loader, settings.train.steps, run, {"super_resolver": painter}, "super_resolver")


def train_jointly(G: nn.Module, T: nn.Module, settings: Settings, loader: ResumableDataLoader, run: Run) -> None:
    """G's turn, judged by the detector of now; then T's, on G's picture, the original, and a patchwork of both (SR4IR, Sec. 3).

    F is T's own trunk, in evaluation mode while it judges, so its statistics stay.
    """
    if settings.detector_optimizer is None:
        raise ValueError(
            "Settings.together says how the detector learns; it is None, which keeps the detector as it is."
        )
    painter, reader = (
        Learner(G, settings.train.optimizer, settings.train.steps),
        Learner(T, settings.detector_optimizer, settings.train.steps),
    )
    judges = SuperResolutionLoss(
        settings.loss_weights, detector_feature_extractor(T, settings.feature_extractor.layers), T
    )
    degrade = build_degradation(settings.network.scale, settings.degradation)

    def step(images: list[Tensor], targets: list[Target]) -> LossDict:
        high = torch.stack(images)
        with eval_mode(T):
            student, teacher = cross_resolution(judges.extract, lambda low: judges.extract(G(low)), high, degrade)
            said = painter.step(judges.losses(student, teacher, targets))
        with torch.no_grad():
            painted = G(degrade(high)).clamp(0, 1)
        views = {"painted": painted, "original": high, "patchwork": cross_quality_mix(painted, high)}
        read = {f"{view}_{name}": loss for view, x in views.items() for name, loss in T(list(x), targets).items()}
        return said | reader.step(read)

    fit(step, loader, settings.train.steps, run, {"super_resolver": painter, "detector": reader}, "together")


def cross_quality_mix(a: Tensor, b: Tensor, grid_size: int = 8) -> Tensor:
    """``[B, 3, H, W]`` of which each of ``grid_size`` × ``grid_size`` parts is from ``a`` or ``b``, as the coin falls (SR4IR, Sec. 3.3)."""
    coin = torch.rand(len(a), 1, grid_size, grid_size, device=a.device) < 0.5
    from_a = nnf.interpolate(coin.to(a.dtype), size=a.shape[-2:], mode="nearest")
    return a * from_a + b * (1 - from_a)


def fine_tune_detector(
    T: nn.Module, preprocess: Callable[[Tensor], Tensor], loader: ResumableDataLoader, stage: StageConfig, run: Run
) -> None:
    """T learns on, from pictures as ``preprocess`` shows them: the baseline the paper leaves out, a detector used to small pictures."""
    seen = SRDetector(T, frozen_copy(preprocess) if isinstance(preprocess, nn.Module) else preprocess)
    reader = Learner(seen, stage.optimizer, stage.steps)
    fit(
        lambda images, targets: reader.step(seen(images, targets)),
        loader,
        stage.steps,
        run,
        {"detector": reader},
        "fine_tuned",
    )


# ------------------------------------------------------------------------------------------------ what judges G's picture: Sec. 2


@dataclass(frozen=True)
class SuperResolutionLoss:
    """The terms of Eq. 3 and who decides them: ``feature_extractor`` for the features, ``detector`` for its own losses; None where a term is off."""

    weights: LossWeights
    feature_extractor: FeatureExtractor | None
    detector: nn.Module | None

    def extract(self, images: Tensor) -> Features:
        """A picture ``[B, 3, H, W]`` as the terms compare it: itself as ``"image"``, and F's maps."""
        return {
            "image": images,
            **(self.feature_extractor(images) if self.feature_extractor and self.weights.features else {}),
        }

    def losses(self, student: Features, teacher: Features, targets: Sequence[Target]) -> LossDict:
        """α · pixels, β · features, and TDSR's γ · detection; a term of weight 0 is left out."""
        losses: LossDict = {}
        maps = {name: x for name, x in teacher.items() if name != "image"}
        if self.weights.pixels:
            losses["pixels"] = self.weights.pixels * pixel_l1(student["image"], teacher["image"])
        if maps:
            losses["features"] = self.weights.features * feature_mse(
                student, maps, self.weights.power, self.weights.scale_free
            )
        if self.weights.detection and self.detector is not None:
            found = eval_mode_losses(self.detector, student["image"], targets)
            losses["detection"] = self.weights.detection * torch.stack(list(found.values())).sum()
        return losses


def _build_loss(settings: Settings, run: Run) -> SuperResolutionLoss:
    """Frozen ones, on the run's device; a network that no term asks for is not even loaded."""
    terms, prior = settings.loss_weights, settings.feature_extractor
    detector = frozen_copy(load_reference_detector(prior.network)) if terms.detection else None
    F = frozen_copy(load_feature_extractor(prior)) if terms.features else None
    for module in (detector, F):
        if module is not None:
            run.to_device(module)
    return SuperResolutionLoss(terms, F, detector)


def load_feature_extractor(config: FeatureExtractorConfig) -> FeatureExtractor:
    """F by name. Raises ValueError if there is nothing of that name, or no such layer in it."""
    if Path(config.network).exists():
        return detector_feature_extractor(baseline.load_detector(config.network)[0], config.layers)
    return pretrained_feature_extractor(config.network, config.layers)


def load_reference_detector(name: str) -> nn.Module:
    """Our detector of a run folder or file, or torchvision's of that name. Raises ValueError if it is neither."""
    return baseline.load_detector(name)[0] if Path(name).exists() else pretrained_detector(name)


# ------------------------------------------------------------------------------------------------ pictures: Sec. 3.1


def build_crop_dataset(config: CropDataConfig, seed: int) -> ImageDataset:
    """The pictures with room for a window: of a COCO folder if it is one, else all picture files in the folder."""
    folder = Path(config.root)
    annotated = config.root == "scenes" or any(folder.glob("instances_*.json")) or (folder / "annotations").is_dir()
    found = baseline.build_dataset(baseline.DataConfig(root=config.root)) if annotated else UnlabeledImageFolder(folder)
    return select_large_images(found, config.crop_size, config.num_images or None, seed)


def build_crop_loader(config: CropDataConfig, seed: int) -> ResumableDataLoader:
    """Endless batches of windows of one size."""
    augment = [RandomCrop(config.crop_size), RandomHorizontalFlip(config.hflip_prob)]
    return ResumableDataLoader(
        build_crop_dataset(config, seed),
        config.batch_size,
        seed,
        augment,
        group_by_aspect_ratio=False,
        num_workers=config.num_workers,
    )
