"""Baseline detector: any interpolator in any pyramid, trained with the detection losses alone.

The papers' methods start from it and are compared with it; it is also stage 3 of SRF-GAN and AFI-GAN. Defaults are the papers' 1x schedule
(Detectron2's): 90,000 steps of 16 images, learning rate 0.02, times 0.1 after 60,000 and 80,000 steps, short sides of 640 … 800 px.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from featlift import detectors
from featlift.backbones import Backbone
from featlift.checkpoints import read_tensors, write_tensors
from featlift.data.augment import HalfSizeView, RandomHorizontalFlip, RandomShortestSize
from featlift.data.batches import ResumableDataLoader
from featlift.data.coco import CocoDataset
from featlift.data.dataset import ImageDataset
from featlift.data.open_dataset import open_dataset
from featlift.data.synthetic.scenes import SyntheticScenes
from featlift.detectors import Detector
from featlift.interpolators import build_interpolators, interpolator
from featlift.interpolators.execution import EXECUTION_MODES
from featlift.training import Learner, OptimizerConfig, Run, distributed, fit

DETECTOR_FILE = "detector.safetensors"
SHARING_MODES = ("paper", "shared", "each")
STEPS_1X, STEPS_3X = 90_000, 270_000
"""Steps of 16 images: 12 and 37 epochs of COCO."""
_PYRAMID_KEY = re.compile(r"(backbone\.pyramid\.(?:inner|layer)_blocks\.)(\d+)(\..+)")


@dataclass(frozen=True)
class DetectorConfig:
    """Configuration of a detector.

    Attributes:
        detector: Detector: "faster-rcnn", "mask-rcnn", "retinanet", "fcos", … (`featlift list detectors`).
        backbone: Name of a timm model.
        backbone_weights: Initial weights of the backbone: "imagenet" (timm's, downloaded once), "random", or the path of a file.
        norm: Batch-norm layers of the backbone: "frozen", "batch", "sync" or "group".
        frozen_stages: Number of frozen backbone stages: 2 freezes the stem and c2, 0 nothing.
        mean_std: Mean and standard deviation of the images, one number each for all three channels; None for timm's values.
        pyramid_channels: Channels C of the pyramid.
        pyramid: Pyramid: "fpn", "pafpn", "bifpn", …
        interpolator: Interpolator of the pyramid's upsampling steps (`featlift list interpolators`).
        interpolator_options: Arguments of the interpolator, such as {"growth_rate": 16}.
        interpolator_sharing: Interpolators of the upsampling steps: "paper" (as in the papers: 5conv, deconv and the rival interpolators
            separate, others shared), "shared" (one for all steps) or "each" (one per step).
        execution: Execution of the interpolators in training: "eager", "checkpointed" (less memory, more time) or "compiled".
        detector_options: Arguments of the detector: anchor_scale, fc_dim, num_proposals, test_size.
        drop_path_rate: Maximum drop-path rate of the backbone in training (0.2 for Swin).
    """

    detector: str = "mask-rcnn"
    backbone: str = "resnet50"
    backbone_weights: str = "imagenet"
    norm: str = "frozen"
    frozen_stages: int = 2
    mean_std: tuple[float, float] | None = None
    pyramid_channels: int = 256
    pyramid: str = "fpn"
    interpolator: str = "nearest"
    interpolator_options: dict[str, Any] = field(default_factory=dict)
    interpolator_sharing: str = "paper"
    execution: str = "eager"
    detector_options: dict[str, Any] = field(default_factory=lambda: {"test_size": [800, 1333]})
    drop_path_rate: float = 0.0

    def __post_init__(self) -> None:
        """Fail early on a configuration that cannot be built, before earlier stages are trained."""
        if self.interpolator_sharing not in SHARING_MODES:
            raise ValueError(
                f"Unknown interpolator_sharing '{self.interpolator_sharing}'; choose one of {', '.join(SHARING_MODES)}."
            )
        if self.execution not in EXECUTION_MODES:
            raise ValueError(f"Unknown execution '{self.execution}'; choose one of {', '.join(EXECUTION_MODES)}.")
        with torch.device("meta"):
            build_pyramid_interpolators(self)


@dataclass(frozen=True)
class DataConfig:
    """Training and validation images and their sizes.

    Attributes:
        root: Dataset: "scenes" (synthetic images), a folder in COCO format, or TT100K's folder (or its JSON file, which names the release).
        batch_size: Images per step, over all processes together.
        min_size: Short sides in pixels, one of which is drawn per image; empty keeps each image's size.
        max_size: Maximum long side in pixels.
        hflip_prob: Probability of a horizontal flip.
        num_workers: Worker processes that load images.
        skip_broken: Skip and list broken images and annotations instead of stopping.
        num_scenes: Number of synthetic training images.
        scene_size: Side of the synthetic images in pixels.
        num_val_scenes: Number of synthetic validation images; they follow the training images.
    """

    root: str = "scenes"
    batch_size: int = 16
    min_size: tuple[int, ...] = (640, 672, 704, 736, 768, 800)
    max_size: int = 1333
    hflip_prob: float = 0.5
    num_workers: int = 2
    skip_broken: bool = False
    num_scenes: int = 2000
    scene_size: int = 320
    num_val_scenes: int = 500


@dataclass(frozen=True)
class StageConfig:
    """Length and optimization of a training stage.

    Attributes:
        steps: Number of training steps.
        optimizer: Optimizer and schedule.
    """

    steps: int
    optimizer: OptimizerConfig


@dataclass(frozen=True)
class Settings:
    """Training of the baseline detector; the defaults are Mask R-CNN R50-FPN on the 1x schedule.

    Attributes:
        model: Detector.
        data: Images, sizes and batch size.
        train: Steps and optimizer.
        init_from: Run folder or detector file; tensors of equal name and shape are copied before training. Empty for none.
    """

    model: DetectorConfig = field(default_factory=DetectorConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: StageConfig = field(default_factory=lambda: StageConfig(STEPS_1X, sgd_1x()))
    init_from: str = ""

    @classmethod
    def quick(cls) -> "Settings":
        """Laptop preset: a small Faster R-CNN on synthetic scenes, a few minutes on two cores."""
        return cls(model=quick_detector_config(), data=quick_data_config(), train=StageConfig(600, quick_optimizer()))

    @classmethod
    def dense(cls) -> "Settings":
        """The papers' RetinaNet, FCOS and CenterMask: half the learning rate (choose the detector with ``--model.detector``)."""
        return cls(model=DetectorConfig(detector="retinanet"), train=StageConfig(STEPS_1X, sgd_1x(lr=0.01)))

    @classmethod
    def transformer(cls) -> "Settings":
        """The papers' Swin rows: Cascade R-CNN on a Swin-T and a BiFPN of seven layers, AdamW, 3x schedule."""
        return cls(model=swin_detector_config(), train=StageConfig(STEPS_3X, adamw_3x()))


def sgd_1x(lr: float = 0.02) -> OptimizerConfig:
    """Return Detectron2's 1x schedule: SGD, times 0.1 after two thirds and eight ninths of the steps. Dense detectors use 0.01."""
    return OptimizerConfig(
        "sgd", lr, warmup_steps=1000, schedule="multistep", milestones=(2 / 3, 8 / 9), decay_norms_and_biases=False
    )


def adamw_3x() -> OptimizerConfig:
    """Return the transformers' 3x schedule: AdamW, lr 1e-4, times 0.1 after 210k and 250k of 270k steps; Swin's weight decay of 0.05."""
    milestones = (7 / 9, 25 / 27)
    return OptimizerConfig(
        "adamw",
        1e-4,
        weight_decay=0.05,
        warmup_steps=1000,
        schedule="multistep",
        milestones=milestones,
        decay_norms_and_biases=False,
    )


def swin_detector_config(interpolator: str = "nearest") -> DetectorConfig:
    """Return Cascade R-CNN on a Swin-T and a BiFPN of seven layers, without frozen backbone stages."""
    return DetectorConfig(
        detector="cascade-rcnn",
        backbone="swin_tiny_patch4_window7_224",
        frozen_stages=0,
        pyramid="bifpn-7",
        interpolator=interpolator,
        drop_path_rate=0.2,
    )


def quick_detector_config(interpolator: str = "nearest") -> DetectorConfig:
    """Return a Faster R-CNN with 64 channels on a ResNet-10 with random weights; anchors of 16 … 256 px."""
    return DetectorConfig(
        detector="faster-rcnn",
        backbone="resnet10t",
        backbone_weights="random",
        norm="batch",
        frozen_stages=0,
        pyramid_channels=64,
        interpolator=interpolator,
        detector_options={"anchor_scale": 4.0, "fc_dim": 128, "num_proposals": 100},
    )


def quick_data_config() -> DataConfig:
    """Return synthetic scenes of 160 px without resizing, batch size 8."""
    return DataConfig(batch_size=8, min_size=(), num_workers=0, num_scenes=800, scene_size=160, num_val_scenes=200)


def quick_optimizer(lr: float = 1e-3) -> OptimizerConfig:
    """Return AdamW with a cosine schedule, which converges fastest from random weights."""
    return OptimizerConfig("adamw", lr=lr, weight_decay=1e-4, warmup_steps=10, schedule="cosine", max_grad_norm=10.0)


def build_detector(
    config: DetectorConfig, num_classes: int, interpolators: Sequence[nn.Module] | None = None
) -> Detector:
    """Build the detector of ``config`` for ``num_classes`` classes; its pyramid uses ``interpolators``, or new ones.

    Raises:
        ValueError: if the configuration names an unknown component or is inconsistent.
    """
    return build_on_backbone(build_backbone(config), config, num_classes, interpolators)


def build_backbone(config: DetectorConfig) -> Backbone:
    """Build the backbone of ``config``, with the levels that its detector and its pyramid use."""
    levels = detectors.backbone_levels(config.detector, config.pyramid)
    pretrained = {"imagenet": True, "random": False}.get(config.backbone_weights, config.backbone_weights)
    mean_std = None if config.mean_std is None else ([config.mean_std[0]] * 3, [config.mean_std[1]] * 3)
    return Backbone(
        config.backbone, levels, config.norm, pretrained, mean_std, config.frozen_stages, config.drop_path_rate
    )


def build_on_backbone(
    backbone: Backbone, config: DetectorConfig, num_classes: int, interpolators: Sequence[nn.Module] | None = None
) -> Detector:
    """Build pyramid, interpolators (``interpolators``, or new ones) and heads on ``backbone``; see :func:`build_detector`."""
    extractor = detectors.extractor(
        config.detector,
        backbone,
        interpolators or build_pyramid_interpolators(config),
        config.pyramid_channels,
        config.pyramid,
    )
    return detectors.detector(config.detector, extractor, num_classes, **config.detector_options)


def build_pyramid_interpolators(config: DetectorConfig) -> list[nn.Module]:
    """Build new interpolators for the pyramid of ``config``: one shared by all steps, or one per step, coarse → fine."""
    name, channels, options = config.interpolator, config.pyramid_channels, config.interpolator_options
    num_steps = detectors.num_upsampling_steps(config.detector, config.pyramid)
    if config.interpolator_sharing == "each":
        modules = [interpolator(name, channels, **options) for _ in range(num_steps)]
    else:
        num_steps = 1 if config.interpolator_sharing == "shared" else num_steps
        modules = build_interpolators(name, channels, num_steps, **options)
    return [EXECUTION_MODES[config.execution](module) for module in modules]


def build_dataset(config: DataConfig, split: str = "train") -> ImageDataset:
    """Build the dataset of ``split``, "train" or "val"."""
    if config.root != "scenes":
        return open_dataset(config.root, split, config.skip_broken)
    size = (config.scene_size, config.scene_size)
    return (
        SyntheticScenes(config.num_scenes, size)
        if split == "train"
        else SyntheticScenes(config.num_val_scenes, size, first_index=config.num_scenes)
    )


def load_training_set(config: DataConfig, run: Run) -> ImageDataset:
    """Build the training set. For a folder, the report of loaded and skipped data is printed and written to the run's ``data.txt``."""
    dataset = build_dataset(config)
    if isinstance(dataset, CocoDataset) and run.rank == 0:
        print(dataset.report)
        (run.folder / "data.txt").write_text(f"{dataset.report}\n", encoding="utf-8")
    return dataset


def load_data_config(run: str | Path, root: str = "") -> DataConfig:
    """Load the data settings of a run folder, or of the run folder that contains a detector file; ``root`` replaces the stored root.

    Raises:
        FileNotFoundError: if ``run`` is no run folder and ``root`` is empty.
    """
    folder = Path(run).parent if Path(run).is_file() else Path(run)
    settings = folder / "settings.json"
    if settings.is_file():
        data = json.loads(settings.read_text())["data"]
        return replace(DataConfig(**data), root=root or data["root"], min_size=tuple(data["min_size"]))
    if not root:
        raise FileNotFoundError(f"'{run}' is no run folder, so its dataset is unknown; give a COCO folder or 'scenes'.")
    return DataConfig(root=root)


def build_train_loader(
    config: DataConfig, dataset: ImageDataset, seed: int, with_half_size: bool = False
) -> ResumableDataLoader:
    """Build endless training batches, flipped and resized by ``config``; ``with_half_size`` adds a half-size view of the original image."""
    resize = [RandomShortestSize(config.min_size, config.max_size)] if config.min_size else []
    views = [HalfSizeView(*resize)] if with_half_size else resize
    return ResumableDataLoader(
        dataset,
        config.batch_size,
        seed,
        [RandomHorizontalFlip(config.hflip_prob), *views],
        num_workers=config.num_workers,
    )


def train(settings: Settings, run: Run) -> Detector:
    """Train a detector in ``run`` and save it as ``detector.safetensors``; an existing run is resumed, a finished one loaded."""
    dataset = load_training_set(settings.data, run)
    detector = build_detector(settings.model, len(dataset.classes))
    if settings.init_from:
        load_matching_weights(detector, load_detector(settings.init_from)[0].state_dict())
    train_detector(detector, build_train_loader(settings.data, dataset, run.seed), settings.train, run, "train")
    save_detector(detector, settings.model, dataset.classes, run.folder)
    return detector


def train_detector(
    detector: Detector, loader: ResumableDataLoader, stage: StageConfig, run: Run, stage_name: str
) -> None:
    """Train ``detector`` with its detection losses, summed with weight 1, for ``stage.steps`` steps as stage ``stage_name`` of ``run``."""
    learner = Learner(detector, stage.optimizer, stage.steps)
    fit(
        lambda images, targets: learner.step(detector(images, targets)),
        loader,
        stage.steps,
        run,
        {"detector": learner},
        stage_name,
    )
    learner.apply_ema()


def load_matching_weights(detector: Detector, weights: Mapping[str, Tensor]) -> list[str]:
    """Copy all ``weights`` whose name and shape match a tensor of ``detector``; return the names of the tensors left unchanged.

    Pyramid convolutions are matched by level: those of p3 in a RetinaNet (its finest level) are copied to those of p3 in a Faster R-CNN.
    """
    state = detector.state_dict()
    weights = {
        _shift_pyramid_level(name, _num_pyramid_levels(state) - _num_pyramid_levels(weights)): value
        for name, value in weights.items()
    }
    matching = {name: value for name, value in weights.items() if name in state and state[name].shape == value.shape}
    detector.load_state_dict(matching, strict=False)
    return [name for name in state if name not in matching]


def _num_pyramid_levels(tensors: Mapping[str, Tensor]) -> int:
    """Return the number of pyramid levels in ``tensors``; the keys number them from the finest."""
    return len({match[2] for match in map(_PYRAMID_KEY.match, tensors) if match})


def _shift_pyramid_level(name: str, shift: int) -> str:
    """Return ``name`` with its pyramid level increased by ``shift``, for a pyramid with ``shift`` additional finer levels."""
    match = _PYRAMID_KEY.match(name)
    return f"{match[1]}{int(match[2]) + shift}{match[3]}" if match else name


def save_detector(
    detector: Detector, config: DetectorConfig, classes: Sequence[str], folder: Path, filename: str = DETECTOR_FILE
) -> Path:
    """Write ``detector`` with its configuration to ``folder``, atomically; return the path. Rank 0 writes, the other ranks wait."""
    metadata = {
        "model": json.dumps(asdict(replace(config, backbone_weights="random", execution="eager"))),
        "classes": json.dumps(list(classes)),
    }
    if distributed.get_rank() == 0:
        write_tensors(folder / filename, detector.state_dict(), metadata)
    distributed.barrier()
    return folder / filename


def load_detector(path: str | Path) -> tuple[Detector, list[str]]:
    """Load the detector of a run folder, or of a file written by :func:`save_detector`; return it and its class names.

    Raises:
        FileNotFoundError: if there is no such run or file.
        ValueError: if the file was not written by :func:`save_detector`.
    """
    path = Path(path)
    tensors, metadata = read_tensors(path / DETECTOR_FILE if path.is_dir() else path)
    if "model" not in metadata:
        raise ValueError(
            f"'{path}' is no detector of FeatLift: it has no configuration. Give a run folder or its {DETECTOR_FILE}."
        )
    if metadata.get("paper") == "efpn":
        from featlift.papers.efpn import efpn_from_metadata  # it imports this module

        detector: Detector = efpn_from_metadata(metadata)
    else:
        detector = detector_from_metadata(metadata)
    detector.load_state_dict(tensors)
    return detector, json.loads(metadata["classes"])


def detector_from_metadata(metadata: Mapping[str, str]) -> Detector:
    """Build the detector described by the metadata of a file of :func:`save_detector`, with random weights."""
    return build_detector(DetectorConfig(**json.loads(metadata["model"])), len(json.loads(metadata["classes"])))
