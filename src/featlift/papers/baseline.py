"""The detector that every paper starts from and is compared with: any interpolator in any pyramid, trained by its detection losses alone.

It is also stage 3 of SRF-GAN and AFI-GAN. Defaults are the papers' 1x schedule (Detectron2's): 90,000 steps of 16 pictures, rate 0.02, a
tenth after 60,000 and 80,000, short sides of 640 … 800 px.
"""

import importlib
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
"""Steps of 16 pictures: 12 and 37 epochs of COCO."""
_PYRAMID_KEY = re.compile(r"(backbone\.pyramid\.(?:inner|layer)_blocks\.)(\d+)(\..+)")


@dataclass(frozen=True)
class DetectorConfig:
    """What a detector is made of.

    Attributes:
        detector: "faster-rcnn", "mask-rcnn", "retinanet", "fcos", … (`featlift list detectors`).
        backbone: name of a timm network.
        backbone_weights: "imagenet" takes timm's (downloaded once), "random" starts from nothing, anything else is the path of a file.
        norm: batch norms of the backbone: "frozen", "batch", "sync" or "group".
        frozen_stages: how much of the backbone stays fixed: 2 is the stem and c2, 0 nothing.
        mean_std: mean and standard deviation of the pictures, one number each for all three channels; None takes timm's.
        pyramid_channels: C of the pyramid.
        pyramid: "fpn", "pafpn", "bifpn", …
        interpolator: what doubles its maps (`featlift list interpolators`).
        interpolator_options: arguments of the interpolator, such as {"growth": 16}.
        interpolator_sharing: "paper" gives each step of the pyramid its own interpolator where the papers do (5conv, deconv, the rivals), "shared"
            one to all steps, "each" one to each.
        execution: how the interpolators work while they learn: "plain", "recomputed" (less memory, more time), or "compiled".
        detector_options: arguments of the detector: anchor_scale, width, proposals, test_size.
        drop_path_rate: largest share of the backbone's residual branches left out in training (0.2 for Swin).
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
    execution: str = "plain"
    detector_options: dict[str, Any] = field(default_factory=lambda: {"test_size": [800, 1333]})
    drop_path_rate: float = 0.0

    def __post_init__(self) -> None:
        """What cannot be built is refused here, before hours of training that do not need it yet."""
        if self.interpolator_sharing not in SHARING_MODES:
            raise ValueError(
                f"Unknown sharing '{self.interpolator_sharing}'; choose one of {', '.join(SHARING_MODES)}."
            )
        if self.execution not in EXECUTION_MODES:
            raise ValueError(f"Unknown interpolating '{self.execution}'; choose one of {', '.join(EXECUTION_MODES)}.")
        with torch.device("meta"):
            build_pyramid_interpolators(self)


@dataclass(frozen=True)
class DataConfig:
    """What is looked at in training and in what size.

    Attributes:
        root: "scenes" for the built-in pictures, a folder in COCO's form, or TT100K's folder (or its json, which names the release).
        batch_size: pictures per step, over all processes together.
        min_size: short sides in pixels that are drawn from; empty keeps each picture's size.
        max_size: no side gets longer than this.
        hflip_prob: chance of mirroring left to right.
        num_workers: processes that read pictures.
        skip_broken: go on without broken pictures and entries, and list them, instead of stopping.
        num_scenes: how many built-in pictures to train on.
        scene_size: side of the built-in pictures in pixels.
        num_val_scenes: how many built-in pictures to measure on; they follow those for training.
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
    """How long a stage is and how its networks learn."""

    steps: int
    optimizer: OptimizerConfig


@dataclass(frozen=True)
class Settings:
    """A plain training; the defaults are Mask R-CNN R50-FPN on the 1x schedule."""

    model: DetectorConfig = field(default_factory=DetectorConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: StageConfig = field(default_factory=lambda: StageConfig(STEPS_1X, sgd_1x()))
    init_from: str = ""
    """A run or detector file whose tensors of equal name and shape are taken as the start."""

    @classmethod
    def quick(cls) -> "Settings":
        """The laptop's: a small Faster R-CNN on the built-in scenes, a few minutes on two cores."""
        return cls(model=quick_detector_config(), data=quick_data_config(), train=StageConfig(600, quick_optimizer()))

    @classmethod
    def dense(cls) -> "Settings":
        """The papers' RetinaNet, FCOS and CenterMask: half the rate (name the detector with ``--model.detector``)."""
        return cls(model=DetectorConfig(detector="retinanet"), train=StageConfig(STEPS_1X, sgd_1x(lr=0.01)))

    @classmethod
    def transformer(cls) -> "Settings":
        """The papers' Swin rows: Cascade R-CNN on a Swin-T and a BiFPN of seven layers, AdamW, 3x."""
        return cls(model=swin_detector_config(), train=StageConfig(STEPS_3X, adamw_3x()))


def sgd_1x(lr: float = 0.02) -> OptimizerConfig:
    """Detectron2's 1x schedule: SGD, a tenth of ``lr`` after two thirds and eight ninths. Dense detectors take 0.01."""
    return OptimizerConfig(
        "sgd", lr, warmup_steps=1000, schedule="steps", milestones=(2 / 3, 8 / 9), decay_norms_and_biases=False
    )


def adamw_3x() -> OptimizerConfig:
    """The transformers' 3x schedule: AdamW, rate 1e-4, a tenth after 210k and 250k of 270k steps; Swin's weight decay of 0.05."""
    milestones = (7 / 9, 25 / 27)
    return OptimizerConfig(
        "adamw",
        1e-4,
        weight_decay=0.05,
        warmup_steps=1000,
        schedule="steps",
        milestones=milestones,
        decay_norms_and_biases=False,
    )


def swin_detector_config(interpolator: str = "nearest") -> DetectorConfig:
    """Cascade R-CNN on a Swin-T and a BiFPN of seven layers; nothing of the backbone stays fixed."""
    return DetectorConfig(
        detector="cascade-rcnn",
        backbone="swin_tiny_patch4_window7_224",
        frozen_stages=0,
        pyramid="bifpn-7",
        interpolator=interpolator,
        drop_path_rate=0.2,
    )


def quick_detector_config(interpolator: str = "nearest") -> DetectorConfig:
    """A Faster R-CNN of 64 channels on a ResNet-10, from random weights; anchors of 16 … 256 px."""
    return DetectorConfig(
        detector="faster-rcnn",
        backbone="resnet10t",
        backbone_weights="random",
        norm="batch",
        frozen_stages=0,
        pyramid_channels=64,
        interpolator=interpolator,
        detector_options={"anchor_scale": 4.0, "width": 128, "proposals": 100},
    )


def quick_data_config() -> DataConfig:
    """Built-in scenes of 160 px, eight a step, kept at their size."""
    return DataConfig(batch_size=8, min_size=(), num_workers=0, num_scenes=800, scene_size=160, num_val_scenes=200)


def quick_optimizer(lr: float = 1e-3) -> OptimizerConfig:
    """AdamW with a cosine: what learns fastest from random weights."""
    return OptimizerConfig("adamw", lr=lr, weight_decay=1e-4, warmup_steps=10, schedule="cosine", max_grad_norm=10.0)


def build_detector(
    config: DetectorConfig, num_classes: int, interpolators: Sequence[nn.Module] | None = None
) -> Detector:
    """The detector that ``config`` describes, for ``num_classes`` classes; its pyramid doubles with ``interpolators``, or with new interpolators.

    Raises:
        ValueError: if the settings name something that does not exist, or do not fit together.
    """
    return build_on_backbone(build_backbone(config), config, num_classes, interpolators)


def build_backbone(config: DetectorConfig) -> Backbone:
    """The backbone that ``config`` describes, with the levels that its detector and its pyramid read."""
    levels = detectors.backbone_levels(config.detector, config.pyramid)
    pretrained = {"imagenet": True, "random": False}.get(config.backbone_weights, config.backbone_weights)
    statistics = None if config.mean_std is None else ([config.mean_std[0]] * 3, [config.mean_std[1]] * 3)
    return Backbone(
        config.backbone, levels, config.norm, pretrained, statistics, config.frozen_stages, config.drop_path_rate
    )


def build_on_backbone(
    backbone: Backbone, config: DetectorConfig, num_classes: int, interpolators: Sequence[nn.Module] | None = None
) -> Detector:
    """What stands on a backbone: pyramid, interpolators (``interpolators``, or new ones) and heads; see :func:`build_detector`."""
    extractor = detectors.extractor(
        config.detector,
        backbone,
        interpolators or build_pyramid_interpolators(config),
        config.pyramid_channels,
        config.pyramid,
    )
    return detectors.detector(config.detector, extractor, num_classes, **config.detector_options)


def build_pyramid_interpolators(config: DetectorConfig) -> list[nn.Module]:
    """New interpolators for the pyramid of ``config``: one that all steps share, or one for each step, coarse → fine."""
    name, channels, options = config.interpolator, config.pyramid_channels, config.interpolator_options
    steps = detectors.num_upsampling_steps(config.detector, config.pyramid)
    if config.interpolator_sharing == "each":
        made = [interpolator(name, channels, **options) for _ in range(steps)]
    else:
        made = build_interpolators(name, channels, 1 if config.interpolator_sharing == "shared" else steps, **options)
    return [EXECUTION_MODES[config.execution](module) for module in made]


def build_dataset(config: DataConfig, split: str = "train") -> ImageDataset:
    """The pictures of ``split``, "train" or "val"."""
    if config.root != "scenes":
        return open_dataset(config.root, split, config.skip_broken)
    size = (config.scene_size, config.scene_size)
    return (
        SyntheticScenes(config.num_scenes, size)
        if split == "train"
        else SyntheticScenes(config.num_val_scenes, size, first_index=config.num_scenes)
    )


def load_training_set(config: DataConfig, run: Run) -> ImageDataset:
    """The training pictures. What was read of a folder, and what was left out and why, is printed and kept in the run's ``data.txt``."""
    shown = build_dataset(config)
    if isinstance(shown, CocoDataset) and run.rank == 0:
        print(shown.report)
        (run.folder / "data.txt").write_text(f"{shown.report}\n", encoding="utf-8")
    return shown


def load_data_config(run: str | Path, root: str = "") -> DataConfig:
    """The data settings of a run folder, or of that in which a detector file lies, with another ``root`` if one is given.

    Raises:
        FileNotFoundError: if no root is given and there is no run to take it from.
    """
    folder = Path(run).parent if Path(run).is_file() else Path(run)
    settings = folder / "settings.json"
    if settings.is_file():
        kept = json.loads(settings.read_text())["data"]
        return replace(DataConfig(**kept), root=root or kept["root"], min_size=tuple(kept["short"]))
    if not root:
        raise FileNotFoundError(
            f"'{run}' is no run folder, so it does not say on which pictures; give a COCO folder or 'scenes'."
        )
    return DataConfig(root=root)


def build_train_loader(
    config: DataConfig, dataset: ImageDataset, seed: int, with_half_size: bool = False
) -> ResumableDataLoader:
    """Endless training batches, flipped and resized as ``config`` says; ``with_half_size`` adds the half-size view of the original picture."""
    resize = [RandomShortestSize(config.min_size, config.max_size)] if config.min_size else []
    sized = [HalfSizeView(*resize)] if with_half_size else resize
    return ResumableDataLoader(
        dataset,
        config.batch_size,
        seed,
        [RandomHorizontalFlip(config.hflip_prob), *sized],
        num_workers=config.num_workers,
    )


def train(settings: Settings, run: Run) -> Detector:
    """Train a detector in ``run`` and save it as ``detector.safetensors``; the same run again goes on or only loads."""
    shown = load_training_set(settings.data, run)
    T = build_detector(settings.model, len(shown.classes))
    if settings.init_from:
        load_matching_weights(T, load_detector(settings.init_from)[0].state_dict())
    train_detector(T, build_train_loader(settings.data, shown, run.seed), settings.train, run, "train")
    save_detector(T, settings.model, shown.classes, run.folder)
    return T


def train_detector(
    detector: Detector, loader: ResumableDataLoader, stage: StageConfig, run: Run, stage_name: str
) -> None:
    """T's own detection losses, summed with weight 1, for ``stage.steps`` steps; its checkpoints are called ``stage_name``."""
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
    """Give T all ``weights`` that have the name and shape of one of its own; returns the names of those that stay as they were.

    The pyramid's convolutions are paired by level: those that make p3 in a RetinaNet (its finest level) are a Faster R-CNN's for p3.
    """
    own = detector.state_dict()
    weights = {
        _shift_pyramid_level(name, _num_pyramid_levels(own) - _num_pyramid_levels(weights)): value
        for name, value in weights.items()
    }
    fitting = {name: value for name, value in weights.items() if name in own and own[name].shape == value.shape}
    detector.load_state_dict(fitting, strict=False)
    return [name for name in own if name not in fitting]


def _num_pyramid_levels(tensors: Mapping[str, Tensor]) -> int:
    """How many levels the pyramid among ``tensors`` has; they are numbered from the finest."""
    return len({found[2] for found in map(_PYRAMID_KEY.match, tensors) if found})


def _shift_pyramid_level(name: str, shift: int) -> str:
    """``name`` in a pyramid that has so many ``shift`` levels, which are finer."""
    found = _PYRAMID_KEY.match(name)
    return f"{found[1]}{int(found[2]) + shift}{found[3]}" if found else name


def save_detector(
    detector: Detector, config: DetectorConfig, classes: Sequence[str], folder: Path, filename: str = DETECTOR_FILE
) -> Path:
    """Write T with what is needed to build it again; the file is whole or not there. Process 0 writes, the others wait for it."""
    described = {
        "model": json.dumps(asdict(replace(config, backbone_weights="random", execution="plain"))),
        "classes": json.dumps(list(classes)),
    }
    if distributed.get_rank() == 0:
        write_tensors(folder / filename, detector.state_dict(), described)
    distributed.barrier()
    return folder / filename


def load_detector(path: str | Path) -> tuple[Detector, list[str]]:
    """The detector of a run folder, or of a file that :func:`save_detector` wrote, and its class names.

    Raises:
        FileNotFoundError: if there is no such run or file.
        ValueError: if the file was not written by :func:`save_detector`.
    """
    path = Path(path)
    tensors, described = read_tensors(path / DETECTOR_FILE if path.is_dir() else path)
    if "model" not in described:
        raise ValueError(
            f"'{path}' is no detector of FeatLift: it does not say how to build it. Name a run folder or its {DETECTOR_FILE}."
        )
    home = importlib.import_module(f"featlift.papers.{described.get('paper', 'baseline')}")
    T = home.described(described)
    T.load_state_dict(tensors)
    return T, json.loads(described["classes"])


def detector_from_metadata(metadata: Mapping[str, str]) -> Detector:
    """The detector that the words in a file of :func:`save_detector` describe, with random weights."""
    return build_detector(DetectorConfig(**json.loads(metadata["model"])), len(json.loads(metadata["classes"])))
