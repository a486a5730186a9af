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
from featlift.checkpoints.tensors import read_words
from featlift.data.augment import Flip
from featlift.data.batches import Batches
from featlift.data.crops import Window, at_least
from featlift.data.dataset import Pictures
from featlift.data.image_folder import Photographs
from featlift.detectors.feature_extraction import Tap
from featlift.detectors.feature_hooks import detector_tap, evaluating, published_detector, published_tap, still_losses
from featlift.detectors.super_resolved import Through
from featlift.features import Features
from featlift.image_sr.checkpoint import NETWORK_FILE
from featlift.image_sr.degradation import Decay, degradation
from featlift.image_sr.network import Network, build
from featlift.losses import feature_mse, pixel_l1
from featlift.papers import baseline
from featlift.papers.baseline import Stage
from featlift.resolution import cross_resolution, frozen
from featlift.training import Descent, Learner, Run, fit

Target = dict[str, Tensor]
Losses = dict[str, Tensor]


@dataclass(frozen=True)
class Prior:
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
class Terms:
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
class Data:
    """What G learns from.

    Attributes:
        root: a folder of pictures, a folder in COCO's form, or "scenes".
        crop: side of the windows in px; smaller pictures are left out (Sec. 3.1). The fourth stage of a ResNet sees 267 px.
        batch: windows per step.
        count: pictures drawn from those large enough; 0 takes all.
        flip: chance of mirroring left to right.
        workers: processes that read pictures.
    """

    root: str = "coco"
    crop: int = 384
    batch: int = 8
    count: int = 20_000
    flip: float = 0.5
    workers: int = 2


@dataclass(frozen=True)
class Settings:
    """FDSR as published: D-DBPN at 4x, Mask R-CNN's c4, 2 million steps of eight windows of 384 px.

    Attributes:
        network: G. prior: F. terms: losses. decay: how pictures lose more than size. data: pictures and windows.
        train: Adam 1e-4, no decay (Sec. 3.1).
        together: how the detector learns in turn with G (SR4IR, Kim et al. 2024); None keeps it as it is, as the paper does.
    """

    network: Network = field(default_factory=Network)
    prior: Prior = field(default_factory=Prior)
    terms: Terms = field(default_factory=Terms)
    decay: Decay = field(default_factory=Decay)
    data: Data = field(default_factory=Data)
    train: Stage = field(default_factory=lambda: Stage(2_000_000, Descent("adam", 1e-4, weight_decay=0.0)))
    together: Descent | None = None

    @classmethod
    def short(cls) -> "Settings":
        """One GPU and a night: 100,000 steps with a cosine, blocks recomputed."""
        descent = Descent("adam", 1e-4, weight_decay=0.0, schedule="cosine")
        return cls(network=Network(recompute=True), train=Stage(100_000, descent))

    @classmethod
    def quick(cls) -> "Settings":
        """The laptop's: a network that starts as bicubic, windows of 96 px, minutes on two cores; ``prior.network`` is a run folder."""
        return cls(
            network=Network("compact"),
            prior=Prior("runs/detector", ("c4",)),
            terms=Terms(scale_free=True),
            data=Data("scenes", crop=96, batch=8, workers=0),
            train=Stage(600, Descent("adam", 1e-3, weight_decay=0.0, warmup=20, schedule="cosine", clip=10.0)),
        )


def train(settings: Settings, run: Run) -> nn.Module:
    """Train G in ``run`` and save it as ``super_resolver.safetensors``; the same run again goes on or only loads.

    With ``settings.together`` the detector that learned with it is saved beside it, as ``detector.safetensors``.
    """
    G = build(settings.network)
    stream = batches(settings.data, run.seed)
    if settings.together is None:
        train_alone(G, settings, stream, run)
    else:
        T = detector_named(settings.prior.network)
        train_together(G, T, settings, stream, run)
        save_detector(T, settings.prior.network, run.folder)
    save(G, run.folder / NETWORK_FILE)
    return G


def save_detector(T: nn.Module, of: str, folder: Path) -> Path:
    """Write T, which came from the run folder or file ``of`` and learned on, as ``detector.safetensors`` that can be loaded again.

    Torchvision's detectors are written without a description: their name is in ``settings.json``.
    """
    origin = Path(of) / baseline.DETECTOR_FILE if Path(of).is_dir() else Path(of)
    return write_tensors(folder / baseline.DETECTOR_FILE, T.state_dict(), read_words(origin) if origin.exists() else {})


def train_alone(G: nn.Module, settings: Settings, stream: Batches, run: Run) -> None:
    """Eq. 4: G descends on the terms between its picture and the original, seen by a frozen F."""
    painter = Learner(G, settings.train.descent, settings.train.steps)
    judges = _judges(settings, run)
    degrade = degradation(settings.network.scale, settings.decay)

    def step(images: list[Tensor], targets: list[Target]) -> Losses:
        student, teacher = cross_resolution(judges.see, lambda low: judges.see(G(low)), torch.stack(images), degrade)
        return painter.descend(judges.losses(student, teacher, targets))

    fit(step, stream, settings.train.steps, run, {"super_resolver": painter}, "super_resolver")


def train_together(G: nn.Module, T: nn.Module, settings: Settings, stream: Batches, run: Run) -> None:
    """G's turn, judged by the detector of now; then T's, on G's picture, the original, and a patchwork of both (SR4IR, Sec. 3).

    F is T's own trunk, in evaluation mode while it judges, so its statistics stay.
    """
    if settings.together is None:
        raise ValueError(
            "Settings.together says how the detector learns; it is None, which keeps the detector as it is."
        )
    painter, reader = (
        Learner(G, settings.train.descent, settings.train.steps),
        Learner(T, settings.together, settings.train.steps),
    )
    judges = Judges(settings.terms, detector_tap(T, settings.prior.layers), T)
    degrade = degradation(settings.network.scale, settings.decay)

    def step(images: list[Tensor], targets: list[Target]) -> Losses:
        high = torch.stack(images)
        with evaluating(T):
            student, teacher = cross_resolution(judges.see, lambda low: judges.see(G(low)), high, degrade)
            said = painter.descend(judges.losses(student, teacher, targets))
        with torch.no_grad():
            painted = G(degrade(high)).clamp(0, 1)
        views = {"painted": painted, "original": high, "patchwork": patchwork(painted, high)}
        read = {f"{view}_{name}": loss for view, x in views.items() for name, loss in T(list(x), targets).items()}
        return said | reader.descend(read)

    fit(step, stream, settings.train.steps, run, {"super_resolver": painter, "detector": reader}, "together")


def patchwork(a: Tensor, b: Tensor, patches: int = 8) -> Tensor:
    """``[B, 3, H, W]`` of which each of ``patches`` × ``patches`` parts is from ``a`` or ``b``, as the coin falls (SR4IR, Sec. 3.3)."""
    coin = torch.rand(len(a), 1, patches, patches, device=a.device) < 0.5
    from_a = nnf.interpolate(coin.to(a.dtype), size=a.shape[-2:], mode="nearest")
    return a * from_a + b * (1 - from_a)


def fine_tune(T: nn.Module, look: Callable[[Tensor], Tensor], stream: Batches, stage: Stage, run: Run) -> None:
    """T learns on, from pictures as ``look`` shows them: the baseline the paper leaves out, a detector used to small pictures."""
    seen = Through(T, frozen(look) if isinstance(look, nn.Module) else look)
    reader = Learner(seen, stage.descent, stage.steps)
    fit(
        lambda images, targets: reader.descend(seen(images, targets)),
        stream,
        stage.steps,
        run,
        {"detector": reader},
        "fine_tuned",
    )


# ------------------------------------------------------------------------------------------------ what judges G's picture: Sec. 2


@dataclass(frozen=True)
class Judges:
    """The terms of Eq. 3 and who decides them: ``tap`` for the features, ``detector`` for its own losses; None where a term is off."""

    terms: Terms
    tap: Tap | None
    detector: nn.Module | None

    def see(self, images: Tensor) -> Features:
        """A picture ``[B, 3, H, W]`` as the terms compare it: itself as ``"image"``, and F's maps."""
        return {"image": images, **(self.tap(images) if self.tap and self.terms.features else {})}

    def losses(self, student: Features, teacher: Features, targets: Sequence[Target]) -> Losses:
        """α · pixels, β · features, and TDSR's γ · detection; a term of weight 0 is left out."""
        losses: Losses = {}
        maps = {name: x for name, x in teacher.items() if name != "image"}
        if self.terms.pixels:
            losses["pixels"] = self.terms.pixels * pixel_l1(student["image"], teacher["image"])
        if maps:
            losses["features"] = self.terms.features * feature_mse(
                student, maps, self.terms.power, self.terms.scale_free
            )
        if self.terms.detection and self.detector is not None:
            found = still_losses(self.detector, student["image"], targets)
            losses["detection"] = self.terms.detection * torch.stack(list(found.values())).sum()
        return losses


def _judges(settings: Settings, run: Run) -> Judges:
    """Frozen ones, on the run's device; a network that no term asks for is not even loaded."""
    terms, prior = settings.terms, settings.prior
    detector = frozen(detector_named(prior.network)) if terms.detection else None
    F = frozen(prior_tap(prior)) if terms.features else None
    for module in (detector, F):
        if module is not None:
            run.place(module)
    return Judges(terms, F, detector)


def prior_tap(prior: Prior) -> Tap:
    """F by name. Raises ValueError if there is nothing of that name, or no such layer in it."""
    if Path(prior.network).exists():
        return detector_tap(baseline.load(prior.network)[0], prior.layers)
    return published_tap(prior.network, prior.layers)


def detector_named(name: str) -> nn.Module:
    """Our detector of a run folder or file, or torchvision's of that name. Raises ValueError if it is neither."""
    return baseline.load(name)[0] if Path(name).exists() else published_detector(name)


# ------------------------------------------------------------------------------------------------ pictures: Sec. 3.1


def pictures(data: Data, seed: int) -> Pictures:
    """The pictures with room for a window: of a COCO folder if it is one, else all picture files in the folder."""
    folder = Path(data.root)
    annotated = data.root == "scenes" or any(folder.glob("instances_*.json")) or (folder / "annotations").is_dir()
    found = baseline.pictures(baseline.Data(root=data.root)) if annotated else Photographs(folder)
    return at_least(found, data.crop, data.count or None, seed)


def batches(data: Data, seed: int) -> Batches:
    """Endless batches of windows of one size."""
    augment = [Window(data.crop), Flip(data.flip)]
    return Batches(pictures(data, seed), data.batch, seed, augment, group=False, workers=data.workers)
