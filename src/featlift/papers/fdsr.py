"""FDSR (Wang et al., "Feature-driven super-resolution for object detection", ICIP 2020): image super-resolution for detection.

G is the super-resolution network, F the frozen backbone of a detector (F_ext of Sec. 2.2), T a detector. G is trained on images downscaled
4x, with half the L1 distance of the pixels and the mean squared distance of F's features, Eqs. (1) to (3). F is not needed at test time:
any detector takes the upscaled image.

No code was published. `docs/papers/fdsr.md` lists the choices where the paper is ambiguous (means or sums, squared or not, which layer).
Two later methods are options of the same training step: TDSR's detection loss (``LossWeights.detection``) and SR4IR's alternating training
of the detector (``Settings.detector_optimizer``).
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
    """Network F and layers whose features are compared.

    Attributes:
        network: A run folder or detector file of FeatLift, a torchvision model ("maskrcnn_resnet50_fpn", "vgg19"; weights are downloaded
            once), or a timm model.
        layers: Feature layers: "c4", "p3" and the like in any detector, or the dotted name of a module
            (`featlift.detectors.feature_extraction.extract_features`). VGG19-54 is "vgg19" with "features.34".
    """

    network: str = "maskrcnn_resnet50_fpn"
    layers: tuple[str, ...] = ("c4",)


@dataclass(frozen=True)
class LossWeights:
    """Weights and form of G's losses, Eq. (3).

    Attributes:
        pixels: Weight α of the pixel loss (Sec. 3.2); 0 uses the features alone.
        features: Weight β of the feature loss; 0 is plain super-resolution.
        detection: Weight of the frozen detector's losses (TDSR, Haris et al. 2018); needs annotations and a detector as feature extractor.
        power: Form of the feature loss: 2 for the mean square, 1 for its root (Eq. (2) as printed).
        scale_free: Divide the feature loss by the features' magnitude, so that the ratio α : β is independent of F.
    """

    pixels: float = 0.5
    features: float = 1.0
    detection: float = 0.0
    power: int = 2
    scale_free: bool = False


@dataclass(frozen=True)
class CropDataConfig:
    """Training crops of G.

    Attributes:
        root: Dataset: a folder of images, a folder in COCO format, or "scenes".
        crop_size: Side of the crops in pixels; smaller images are skipped (Sec. 3.1). The receptive field of a ResNet's c4 is 267 px.
        batch_size: Crops per step.
        num_images: Number of images drawn from those that are large enough; 0 for all.
        hflip_prob: Probability of a horizontal flip.
        num_workers: Worker processes that load images.
    """

    root: str = "coco"
    crop_size: int = 384
    batch_size: int = 8
    num_images: int = 20_000
    hflip_prob: float = 0.5
    num_workers: int = 2


@dataclass(frozen=True)
class Settings:
    """FDSR as published: D-DBPN at 4x, Mask R-CNN's c4, 2 million steps of eight crops of 384 px.

    Attributes:
        network: Super-resolution network G.
        feature_extractor: Network F and its layers.
        loss_weights: Loss weights.
        degradation: Degradation of the images besides downscaling.
        data: Images and crops.
        train: Steps and optimizer: Adam, lr 1e-4, no weight decay (Sec. 3.1).
        detector_optimizer: Optimizer of the detector in alternating training (SR4IR, Kim et al. 2024); None keeps it frozen (the paper).
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
        """One night on one GPU: 100,000 steps with a cosine schedule and gradient checkpointing."""
        optimizer = OptimizerConfig("adam", 1e-4, weight_decay=0.0, schedule="cosine")
        return cls(network=SuperResolverConfig(gradient_checkpointing=True), train=StageConfig(100_000, optimizer))

    @classmethod
    def quick(cls) -> "Settings":
        """Laptop preset: a network initialized as bicubic, crops of 96 px; set ``feature_extractor.network`` to a run folder."""
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
    """Train G in ``run`` and save it as ``super_resolver.safetensors``; an existing run is resumed, a finished one loaded.

    With ``settings.detector_optimizer`` the jointly trained detector is saved, too, as ``detector.safetensors``.
    """
    G = build_super_resolver(settings.network)
    loader = build_crop_loader(settings.data, run.seed)
    if settings.detector_optimizer is None:
        train_super_resolver(G, settings, loader, run)
    else:
        T = load_reference_detector(settings.feature_extractor.network)
        train_jointly(G, T, settings, loader, run)
        save_joint_detector(T, settings.feature_extractor.network, run.folder)
    save(G, run.folder / SUPER_RESOLVER_FILE)
    return G


def save_joint_detector(T: nn.Module, source: str, folder: Path) -> Path:
    """Write T, a fine-tuned detector of the run folder or file ``source``, as ``detector.safetensors`` with the metadata of ``source``.

    Torchvision detectors are written without metadata; their name is in ``settings.json``.
    """
    origin = Path(source) / baseline.DETECTOR_FILE if Path(source).is_dir() else Path(source)
    return write_tensors(
        folder / baseline.DETECTOR_FILE, T.state_dict(), read_metadata(origin) if origin.exists() else {}
    )


def train_super_resolver(G: nn.Module, settings: Settings, loader: ResumableDataLoader, run: Run) -> None:
    """Train G with the losses between its output and the original image under a frozen F, Eq. (4)."""
    learner = Learner(G, settings.train.optimizer, settings.train.steps)
    criterion = _build_loss(settings, run)
    degrade = build_degradation(settings.network.scale, settings.degradation)

    def step(images: list[Tensor], targets: list[Target]) -> LossDict:
        student, teacher = cross_resolution(
            criterion.extract, lambda low: criterion.extract(G(low)), torch.stack(images), degrade
        )
        return learner.step(criterion.losses(student, teacher, targets))

    fit(step, loader, settings.train.steps, run, {"super_resolver": learner}, "super_resolver")


def train_jointly(G: nn.Module, T: nn.Module, settings: Settings, loader: ResumableDataLoader, run: Run) -> None:
    """Alternate updates of G, with the current detector as F, and of T, on upscaled, original and mixed images (SR4IR, Sec. 3).

    F is T's own backbone, in evaluation mode during G's update, so its batch-norm statistics do not change.

    Raises:
        ValueError: if ``settings.detector_optimizer`` is None.
    """
    if settings.detector_optimizer is None:
        raise ValueError("train_jointly needs an optimizer for the detector; set Settings.detector_optimizer.")
    learner_G = Learner(G, settings.train.optimizer, settings.train.steps)
    learner_T = Learner(T, settings.detector_optimizer, settings.train.steps)
    criterion = SuperResolutionLoss(
        settings.loss_weights, detector_feature_extractor(T, settings.feature_extractor.layers), T
    )
    degrade = build_degradation(settings.network.scale, settings.degradation)

    def step(images: list[Tensor], targets: list[Target]) -> LossDict:
        high = torch.stack(images)
        with eval_mode(T):
            student, teacher = cross_resolution(criterion.extract, lambda low: criterion.extract(G(low)), high, degrade)
            log = learner_G.step(criterion.losses(student, teacher, targets))
        with torch.no_grad():
            upscaled = G(degrade(high)).clamp(0, 1)
        views = {"upscaled": upscaled, "original": high, "mixed": cross_quality_mix(upscaled, high)}
        losses = {f"{view}_{name}": loss for view, x in views.items() for name, loss in T(list(x), targets).items()}
        return log | learner_T.step(losses)

    fit(step, loader, settings.train.steps, run, {"super_resolver": learner_G, "detector": learner_T}, "joint")


def cross_quality_mix(a: Tensor, b: Tensor, grid_size: int = 8) -> Tensor:
    """Mix ``a`` and ``b``, ``[B, 3, H, W]``: each cell of a ``grid_size`` × ``grid_size`` grid is drawn from either (SR4IR, Sec. 3.3)."""
    choice = torch.rand(len(a), 1, grid_size, grid_size, device=a.device) < 0.5
    mask = nnf.interpolate(choice.to(a.dtype), size=a.shape[-2:], mode="nearest")
    return a * mask + b * (1 - mask)


def fine_tune_detector(
    T: nn.Module, preprocess: Callable[[Tensor], Tensor], loader: ResumableDataLoader, stage: StageConfig, run: Run
) -> None:
    """Fine-tune T on images transformed by ``preprocess``: a baseline adapted to low resolution, which the paper omits."""
    detector = SRDetector(T, frozen_copy(preprocess) if isinstance(preprocess, nn.Module) else preprocess)
    learner = Learner(detector, stage.optimizer, stage.steps)
    fit(
        lambda images, targets: learner.step(detector(images, targets)),
        loader,
        stage.steps,
        run,
        {"detector": learner},
        "fine_tuned",
    )


# ------------------------------------------------------------------------------------------------ losses of G: Sec. 2


@dataclass(frozen=True)
class SuperResolutionLoss:
    """Losses of Eq. (3), with ``feature_extractor`` for the feature loss and ``detector`` for the detection loss; None if the loss is off.

    Attributes:
        weights: Loss weights.
        feature_extractor: F, or None.
        detector: Detector of TDSR's loss, or None.
    """

    weights: LossWeights
    feature_extractor: FeatureExtractor | None
    detector: nn.Module | None

    def extract(self, images: Tensor) -> Features:
        """Return ``images [B, 3, H, W]`` as ``"image"``, and F's feature maps of them."""
        return {
            "image": images,
            **(self.feature_extractor(images) if self.feature_extractor and self.weights.features else {}),
        }

    def losses(self, student: Features, teacher: Features, targets: Sequence[Target]) -> LossDict:
        """Return α · pixels, β · features, and TDSR's γ · detection; losses of weight 0 are omitted."""
        losses: LossDict = {}
        teacher_maps = {name: x for name, x in teacher.items() if name != "image"}
        if self.weights.pixels:
            losses["pixels"] = self.weights.pixels * pixel_l1(student["image"], teacher["image"])
        if teacher_maps:
            losses["features"] = self.weights.features * feature_mse(
                student, teacher_maps, self.weights.power, self.weights.scale_free
            )
        if self.weights.detection and self.detector is not None:
            detection_losses = eval_mode_losses(self.detector, student["image"], targets)
            losses["detection"] = self.weights.detection * torch.stack(list(detection_losses.values())).sum()
        return losses


def _build_loss(settings: Settings, run: Run) -> SuperResolutionLoss:
    """Load frozen networks to the run's device; networks whose loss weight is 0 are not loaded."""
    weights, config = settings.loss_weights, settings.feature_extractor
    detector = frozen_copy(load_reference_detector(config.network)) if weights.detection else None
    F = frozen_copy(load_feature_extractor(config)) if weights.features else None
    for module in (detector, F):
        if module is not None:
            run.to_device(module)
    return SuperResolutionLoss(weights, F, detector)


def load_feature_extractor(config: FeatureExtractorConfig) -> FeatureExtractor:
    """Load F.

    Raises:
        ValueError: if the network or a layer does not exist.
    """
    if Path(config.network).exists():
        return detector_feature_extractor(baseline.load_detector(config.network)[0], config.layers)
    return pretrained_feature_extractor(config.network, config.layers)


def load_reference_detector(name: str) -> nn.Module:
    """Load the detector of a run folder or file, or torchvision's detector of that name.

    Raises:
        ValueError: if there is neither.
    """
    return baseline.load_detector(name)[0] if Path(name).exists() else pretrained_detector(name)


# ------------------------------------------------------------------------------------------------ images: Sec. 3.1


def build_crop_dataset(config: CropDataConfig, seed: int) -> ImageDataset:
    """Build the dataset of images at least as large as a crop: of a COCO folder, or else of all image files in the folder."""
    folder = Path(config.root)
    annotated = config.root == "scenes" or any(folder.glob("instances_*.json")) or (folder / "annotations").is_dir()
    dataset = (
        baseline.build_dataset(baseline.DataConfig(root=config.root)) if annotated else UnlabeledImageFolder(folder)
    )
    return select_large_images(dataset, config.crop_size, config.num_images or None, seed)


def build_crop_loader(config: CropDataConfig, seed: int) -> ResumableDataLoader:
    """Build endless batches of random crops of one size."""
    augmentations = [RandomCrop(config.crop_size), RandomHorizontalFlip(config.hflip_prob)]
    return ResumableDataLoader(
        build_crop_dataset(config, seed),
        config.batch_size,
        seed,
        augmentations,
        group_by_aspect_ratio=False,
        num_workers=config.num_workers,
    )
