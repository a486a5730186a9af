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
from featlift.data.augment import Flip, Halved, Resize
from featlift.data.batches import Batches
from featlift.data.coco import CocoPictures
from featlift.data.dataset import Pictures
from featlift.data.open_dataset import opened
from featlift.data.synthetic.scenes import Scenes
from featlift.detectors import Detector
from featlift.interpolators import interpolator, interpolators
from featlift.interpolators.execution import RUNNING
from featlift.training import Descent, Learner, Run, distributed, fit

DETECTOR_FILE = "detector.safetensors"
SHARING = ("paper", "shared", "each")
ONE_TIME, THREE_TIMES = 90_000, 270_000
"""Steps of 16 pictures: 12 and 37 epochs of COCO."""
_PYRAMID = re.compile(r"(backbone\.pyramid\.(?:inner|layer)_blocks\.)(\d+)(\..+)")


@dataclass(frozen=True)
class Model:
    """What a detector is made of.

    Attributes:
        detector: "faster-rcnn", "mask-rcnn", "retinanet", "fcos", … (`featlift list detectors`).
        backbone: name of a timm network.
        weights: "imagenet" takes timm's (downloaded once), "random" starts from nothing, anything else is the path of a file.
        norm: batch norms of the backbone: "frozen", "batch", "sync" or "group".
        frozen_stages: how much of the backbone stays fixed: 2 is the stem and c2, 0 nothing.
        statistics: mean and standard deviation of the pictures, one number each for all three channels; None takes timm's.
        channels: C of the pyramid.
        pyramid: "fpn", "pafpn", "bifpn", …
        interpolator: what doubles its maps (`featlift list interpolators`).
        interpolator_options: arguments of the interpolator, such as {"growth": 16}.
        sharing: "paper" gives each step of the pyramid its own interpolator where the papers do (5conv, deconv, the rivals), "shared"
            one to all steps, "each" one to each.
        interpolating: how the interpolators work while they learn: "plain", "recomputed" (less memory, more time), or "compiled".
        detector_options: arguments of the detector: anchor_scale, width, proposals, test_size.
        drop_path: largest share of the backbone's residual branches left out in training (0.2 for Swin).
    """

    detector: str = "mask-rcnn"
    backbone: str = "resnet50"
    weights: str = "imagenet"
    norm: str = "frozen"
    frozen_stages: int = 2
    statistics: tuple[float, float] | None = None
    channels: int = 256
    pyramid: str = "fpn"
    interpolator: str = "nearest"
    interpolator_options: dict[str, Any] = field(default_factory=dict)
    sharing: str = "paper"
    interpolating: str = "plain"
    detector_options: dict[str, Any] = field(default_factory=lambda: {"test_size": [800, 1333]})
    drop_path: float = 0.0

    def __post_init__(self) -> None:
        """What cannot be built is refused here, before hours of training that do not need it yet."""
        if self.sharing not in SHARING:
            raise ValueError(f"Unknown sharing '{self.sharing}'; choose one of {', '.join(SHARING)}.")
        if self.interpolating not in RUNNING:
            raise ValueError(f"Unknown interpolating '{self.interpolating}'; choose one of {', '.join(RUNNING)}.")
        with torch.device("meta"):
            doublings(self)


@dataclass(frozen=True)
class Data:
    """What is looked at in training and in what size.

    Attributes:
        root: "scenes" for the built-in pictures, a folder in COCO's form, or TT100K's folder (or its json, which names the release).
        batch: pictures per step, over all processes together.
        short: short sides in pixels that are drawn from; empty keeps each picture's size.
        longest: no side gets longer than this.
        flip: chance of mirroring left to right.
        workers: processes that read pictures.
        skip_broken: go on without broken pictures and entries, and list them, instead of stopping.
        scenes: how many built-in pictures to train on.
        scene_size: side of the built-in pictures in pixels.
        scenes_val: how many built-in pictures to measure on; they follow those for training.
    """

    root: str = "scenes"
    batch: int = 16
    short: tuple[int, ...] = (640, 672, 704, 736, 768, 800)
    longest: int = 1333
    flip: float = 0.5
    workers: int = 2
    skip_broken: bool = False
    scenes: int = 2000
    scene_size: int = 320
    scenes_val: int = 500


@dataclass(frozen=True)
class Stage:
    """How long a stage is and how its networks learn."""

    steps: int
    descent: Descent


@dataclass(frozen=True)
class Settings:
    """A plain training; the defaults are Mask R-CNN R50-FPN on the 1x schedule."""

    model: Model = field(default_factory=Model)
    data: Data = field(default_factory=Data)
    train: Stage = field(default_factory=lambda: Stage(ONE_TIME, one_time()))
    start: str = ""
    """A run or detector file whose tensors of equal name and shape are taken as the start."""

    @classmethod
    def quick(cls) -> "Settings":
        """The laptop's: a small Faster R-CNN on the built-in scenes, a few minutes on two cores."""
        return cls(model=quick_model(), data=quick_data(), train=Stage(600, quick_descent()))

    @classmethod
    def dense(cls) -> "Settings":
        """The papers' RetinaNet, FCOS and CenterMask: half the rate (name the detector with ``--model.detector``)."""
        return cls(model=Model(detector="retinanet"), train=Stage(ONE_TIME, one_time(rate=0.01)))

    @classmethod
    def transformer(cls) -> "Settings":
        """The papers' Swin rows: Cascade R-CNN on a Swin-T and a BiFPN of seven layers, AdamW, 3x."""
        return cls(model=swin(), train=Stage(THREE_TIMES, adamw()))


def one_time(rate: float = 0.02) -> Descent:
    """Detectron2's 1x schedule: SGD, a tenth of ``rate`` after two thirds and eight ninths. Dense detectors take 0.01."""
    return Descent("sgd", rate, warmup=1000, schedule="steps", milestones=(2 / 3, 8 / 9), decay_norms=False)


def adamw() -> Descent:
    """The transformers' 3x schedule: AdamW, rate 1e-4, a tenth after 210k and 250k of 270k steps; Swin's weight decay of 0.05."""
    milestones = (7 / 9, 25 / 27)
    return Descent(
        "adamw", 1e-4, weight_decay=0.05, warmup=1000, schedule="steps", milestones=milestones, decay_norms=False
    )


def swin(interpolator: str = "nearest") -> Model:
    """Cascade R-CNN on a Swin-T and a BiFPN of seven layers; nothing of the backbone stays fixed."""
    return Model(
        detector="cascade-rcnn",
        backbone="swin_tiny_patch4_window7_224",
        frozen_stages=0,
        pyramid="bifpn-7",
        interpolator=interpolator,
        drop_path=0.2,
    )


def quick_model(interpolator: str = "nearest") -> Model:
    """A Faster R-CNN of 64 channels on a ResNet-10, from random weights; anchors of 16 … 256 px."""
    return Model(
        detector="faster-rcnn",
        backbone="resnet10t",
        weights="random",
        norm="batch",
        frozen_stages=0,
        channels=64,
        interpolator=interpolator,
        detector_options={"anchor_scale": 4.0, "width": 128, "proposals": 100},
    )


def quick_data() -> Data:
    """Built-in scenes of 160 px, eight a step, kept at their size."""
    return Data(batch=8, short=(), workers=0, scenes=800, scene_size=160, scenes_val=200)


def quick_descent(rate: float = 1e-3) -> Descent:
    """AdamW with a cosine: what learns fastest from random weights."""
    return Descent("adamw", rate=rate, weight_decay=1e-4, warmup=10, schedule="cosine", clip=10.0)


def build(model: Model, classes: int, given: Sequence[nn.Module] | None = None) -> Detector:
    """The detector that ``model`` describes, for ``classes`` classes; its pyramid doubles with ``given``, or with new interpolators.

    Raises:
        ValueError: if the settings name something that does not exist, or do not fit together.
    """
    return on_backbone(backbone(model), model, classes, given)


def backbone(model: Model) -> Backbone:
    """The backbone that ``model`` describes, with the levels that its detector and its pyramid read."""
    levels = detectors.levels_of(model.detector, model.pyramid)
    pretrained = {"imagenet": True, "random": False}.get(model.weights, model.weights)
    statistics = None if model.statistics is None else ([model.statistics[0]] * 3, [model.statistics[1]] * 3)
    return Backbone(model.backbone, levels, model.norm, pretrained, statistics, model.frozen_stages, model.drop_path)


def on_backbone(below: Backbone, model: Model, classes: int, given: Sequence[nn.Module] | None = None) -> Detector:
    """What stands on a backbone: pyramid, interpolators (``given``, or new ones) and heads; see :func:`build`."""
    extractor = detectors.extractor(model.detector, below, given or doublings(model), model.channels, model.pyramid)
    return detectors.detector(model.detector, extractor, classes, **model.detector_options)


def doublings(model: Model) -> list[nn.Module]:
    """New interpolators for the pyramid of ``model``: one that all steps share, or one for each step, coarse → fine."""
    name, channels, options = model.interpolator, model.channels, model.interpolator_options
    steps = detectors.doublings_of(model.detector, model.pyramid)
    if model.sharing == "each":
        made = [interpolator(name, channels, **options) for _ in range(steps)]
    else:
        made = interpolators(name, channels, 1 if model.sharing == "shared" else steps, **options)
    return [RUNNING[model.interpolating](module) for module in made]


def pictures(data: Data, split: str = "train") -> Pictures:
    """The pictures of ``split``, "train" or "val"."""
    if data.root != "scenes":
        return opened(data.root, split, data.skip_broken)
    size = (data.scene_size, data.scene_size)
    return Scenes(data.scenes, size) if split == "train" else Scenes(data.scenes_val, size, first=data.scenes)


def announced(data: Data, run: Run) -> Pictures:
    """The training pictures. What was read of a folder, and what was left out and why, is printed and kept in the run's ``data.txt``."""
    shown = pictures(data)
    if isinstance(shown, CocoPictures) and run.rank == 0:
        print(shown.report)
        (run.folder / "data.txt").write_text(f"{shown.report}\n", encoding="utf-8")
    return shown


def data_of(run: str | Path, root: str = "") -> Data:
    """The data settings of a run folder, or of that in which a detector file lies, with another ``root`` if one is given.

    Raises:
        FileNotFoundError: if no root is given and there is no run to take it from.
    """
    folder = Path(run).parent if Path(run).is_file() else Path(run)
    settings = folder / "settings.json"
    if settings.is_file():
        kept = json.loads(settings.read_text())["data"]
        return replace(Data(**kept), root=root or kept["root"], short=tuple(kept["short"]))
    if not root:
        raise FileNotFoundError(
            f"'{run}' is no run folder, so it does not say on which pictures; give a COCO folder or 'scenes'."
        )
    return Data(root=root)


def batches(data: Data, pictures: Pictures, seed: int, halved: bool = False) -> Batches:
    """Endless training batches, flipped and resized as ``data`` says; ``halved`` adds the half-size view of the original picture."""
    resize = [Resize(data.short, data.longest)] if data.short else []
    sized = [Halved(*resize)] if halved else resize
    return Batches(pictures, data.batch, seed, [Flip(data.flip), *sized], workers=data.workers)


def train(settings: Settings, run: Run) -> Detector:
    """Train a detector in ``run`` and save it as ``detector.safetensors``; the same run again goes on or only loads."""
    shown = announced(settings.data, run)
    T = build(settings.model, len(shown.classes))
    if settings.start:
        adopt(T, load(settings.start)[0].state_dict())
    descend(T, batches(settings.data, shown, run.seed), settings.train, run, "train")
    save(T, settings.model, shown.classes, run.folder)
    return T


def descend(T: Detector, stream: Batches, stage: Stage, run: Run, name: str) -> None:
    """T's own detection losses, summed with weight 1, for ``stage.steps`` steps; its checkpoints are called ``name``."""
    learner = Learner(T, stage.descent, stage.steps)
    fit(
        lambda images, targets: learner.descend(T(images, targets)),
        stream,
        stage.steps,
        run,
        {"detector": learner},
        name,
    )
    learner.keep_average()


def adopt(T: Detector, tensors: Mapping[str, Tensor]) -> list[str]:
    """Give T all ``tensors`` that have the name and shape of one of its own; returns the names of those that stay as they were.

    The pyramid's convolutions are paired by level: those that make p3 in a RetinaNet (its finest level) are a Faster R-CNN's for p3.
    """
    own = T.state_dict()
    tensors = {_at_level(name, _levels(own) - _levels(tensors)): value for name, value in tensors.items()}
    fitting = {name: value for name, value in tensors.items() if name in own and own[name].shape == value.shape}
    T.load_state_dict(fitting, strict=False)
    return [name for name in own if name not in fitting]


def _levels(tensors: Mapping[str, Tensor]) -> int:
    """How many levels the pyramid among ``tensors`` has; they are numbered from the finest."""
    return len({found[2] for found in map(_PYRAMID.match, tensors) if found})


def _at_level(name: str, more: int) -> str:
    """``name`` in a pyramid that has so many ``more`` levels, which are finer."""
    found = _PYRAMID.match(name)
    return f"{found[1]}{int(found[2]) + more}{found[3]}" if found else name


def save(T: Detector, model: Model, classes: Sequence[str], folder: Path, name: str = DETECTOR_FILE) -> Path:
    """Write T with what is needed to build it again; the file is whole or not there. Process 0 writes, the others wait for it."""
    described = {
        "model": json.dumps(asdict(replace(model, weights="random", interpolating="plain"))),
        "classes": json.dumps(list(classes)),
    }
    if distributed.rank() == 0:
        write_tensors(folder / name, T.state_dict(), described)
    distributed.wait()
    return folder / name


def load(path: str | Path) -> tuple[Detector, list[str]]:
    """The detector of a run folder, or of a file that :func:`save` wrote, and its class names.

    Raises:
        FileNotFoundError: if there is no such run or file.
        ValueError: if the file was not written by :func:`save`.
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


def described(words: Mapping[str, str]) -> Detector:
    """The detector that the words in a file of :func:`save` describe, with random weights."""
    return build(Model(**json.loads(words["model"])), len(json.loads(words["classes"])))
