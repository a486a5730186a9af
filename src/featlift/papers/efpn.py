"""EFPN (Deng et al., IEEE Transactions on Multimedia 2021): a finer pyramid level for small objects, learned from the same network at 2x.

M is a detector as it is; F is its extractor together with the extension, which makes p3x and p2x; T is M with that level and a second box
head for small RoIs. Phase 1 trains M; phase 2 teaches the extension what F's pyramid is of a picture twice as large (Sec. III-C), all else
frozen; phase 3 trains the new head on p2x with hard example mining (Sec. IV-A).

The text says little of phases 2 and 3; what it leaves open is marked in :class:`Settings`. Where the authors' anonymous release differs,
:meth:`Settings.official` follows it; `docs/papers/efpn.md` lists the differences.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
import torch.nn.functional as nnf
from torch import Tensor
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN

from featlift.checkpoints import write_tensors
from featlift.data.augment import Augmentation, Flip, Resize
from featlift.data.batches import Batches
from featlift.data.class_balance import Balance
from featlift.data.crops import Window
from featlift.data.dataset import Pictures
from featlift.data.image_folder import Photographs
from featlift.detectors import Detector
from featlift.detectors.batch_transform import Canvas
from featlift.detectors.efpn_config import Finer, extended, parts, read_as
from featlift.detectors.sparse_level import Tiled
from featlift.features import Features, stride
from featlift.losses import content, foreground, rasterised
from featlift.papers import baseline
from featlift.papers.baseline import Data, Model, Stage
from featlift.pyramids.efpn import begin_as
from featlift.resolution import cross_resolution, freeze
from featlift.training import Descent, Learner, Run, fit

Target = dict[str, Tensor]
PLAIN_FILE = "plain.safetensors"
SUPERVISES = {"p3x": "inner3", "p2x": "p2"}
"""Level of the student → level of the teacher that it should equal, at twice the picture (Eq. 5)."""


@dataclass(frozen=True)
class Distillation:
    """What phase 2 looks at.

    Attributes:
        scale: the teacher's pictures relative to ``data.short``: with 2 the student sees the sizes that T will see.
        balance: λ of the foreground term (Sec. IV-A); 0 leaves it out.
        crop: side of random squares of the teacher's picture, in px, where memory is short (a multiple of 64); 0 takes all of it.
        pictures: a folder of pictures without boxes to learn from instead of the data; then only the global term teaches.
        tile: where memory is short: side in cells of stride 8 of the tiles in which the extension is computed one by one, and again for
            the backward pass, with the same result (8 is a good start); 0 computes all at once.
    """

    scale: float = 2.0
    balance: float = 1.0
    crop: int = 0
    pictures: str = ""
    tile: int = 0


@dataclass(frozen=True)
class Settings:
    """The three phases. Defaults are the paper's TT100K experiment; rates and lengths of phases 2 and 3 are ours, for it gives none.

    Attributes:
        model: M: a Faster or Mask R-CNN on an FPN or PAFPN, with a backbone of the ResNet family.
        data: pictures, sizes and batch.
        finer: the extended level.
        distillation: what phase 2 looks at.
        balance: rare classes shown more often, cut and coloured anew. The paper has 1000 and gives no crop; for COCO take wanted 0.
        detector: phase 1.
        extension: phase 2.
        head: phase 3; with 0 steps the new head stays a copy of the old one (the release on COCO).
        detector_from: run folder or detector file of M; phase 1 is then left out.
        extension_learns: train the extension in phase 3, too, as the release does.
    """

    model: Model = field(
        default_factory=lambda: Model("faster-rcnn", detector_options={"anchor_scale": 4.0, "test_size": [1400, 4000]})
    )
    data: Data = field(default_factory=lambda: Data(short=(1400,), longest=4000))  # Sec. IV-A: 1400 x 1400
    finer: Finer = field(default_factory=Finer)
    distillation: Distillation = field(default_factory=Distillation)
    balance: Balance = field(default_factory=lambda: Balance(wanted=1000, crop=1024))
    detector: Stage = field(default_factory=lambda: Stage(90_000, baseline.one_time()))
    extension: Stage = field(
        default_factory=lambda: Stage(90_000, Descent("adamw", rate=1e-4, schedule="cosine", clip=1.0))
    )
    head: Stage = field(default_factory=lambda: Stage(30_000, Descent("sgd", rate=0.005, warmup=1000)))
    detector_from: str = ""
    extension_learns: bool = True

    def __post_init__(self) -> None:
        if self.distillation.scale != 1 and not self.data.short:
            raise ValueError(
                f"distillation.scale is {self.distillation.scale}, but data.short is empty, so pictures keep their size. Give data.short "
                "(the size T will see), or scale 1: then the student sees half of each picture."
            )

    @classmethod
    def official(cls) -> "Settings":
        """As the release does: FTT of width 512 from random weights, both heads judge small RoIs."""
        return cls(finer=Finer("authors", routing="duplicate", start="random"))

    @classmethod
    def quick(cls) -> "Settings":
        """The laptop's: a small Faster R-CNN on the built-in scenes, taught by itself on scenes drawn twice as large."""
        return cls(
            model=baseline.quick_model(),
            data=replace(baseline.quick_data(), short=(160,)),
            balance=Balance(),
            finer=Finer(transfer_options={"width": 32}, limit=32.0),
            detector=Stage(600, baseline.quick_descent()),
            extension=Stage(150, baseline.quick_descent()),
            head=Stage(150, baseline.quick_descent()),
        )


def train(settings: Settings, run: Run) -> GeneralizedRCNN:
    """The three phases, one after the other; what ``run`` has finished is only loaded. T is saved as ``detector.safetensors``.

    Raises:
        TypeError: if M cannot be extended (other detectors, pyramids or backbones), before anything is trained.
        ValueError: if ``detector_from`` names another network than ``model``.
    """
    shown = baseline.announced(settings.data, run)
    M = baseline.build(settings.model, len(shown.classes))
    T = extended(M, settings.finer)
    detector(M, settings, shown, run)
    distil(T, settings, shown, run)
    second_head(T, settings, shown, run)
    read_as(T, settings.finer)
    save(T, settings, shown.classes, run.folder)
    return T


# ---------------------------------------------------------------------------------------------------- phase 1: Sec. IV-A


def detector(M: Detector, settings: Settings, shown: Pictures, run: Run) -> None:
    """M trained as it is, or taken from ``settings.detector_from``; saved as ``plain.safetensors``, to be compared with T."""
    if settings.detector_from:
        missing = baseline.adopt(M, baseline.load(settings.detector_from)[0].state_dict())
        if missing:
            raise ValueError(
                f"'{settings.detector_from}' is another network than 'model' describes: {len(missing)} tensors have no partner there, "
                f"such as {', '.join(missing[:3])}. Give the model it was trained with."
            )
    else:
        baseline.descend(M, labelled(settings, shown, run.seed), settings.detector, run, "detector")
    baseline.save(M, settings.model, shown.classes, run.folder, PLAIN_FILE)


# ---------------------------------------------------------------------------------------------------- phase 2: Sec. III-C, Eqs. (5) to (8)


def distil(T: GeneralizedRCNN, settings: Settings, shown: Pictures, run: Run) -> None:
    """The extension's p3x and p2x of a halved batch against inner3 and p2 of the batch itself; nothing else moves."""
    F, _ = parts(T)
    if settings.finer.start == "detector":
        begin_as(F.extension, F.pyramid.inner_blocks[0], F.pyramid.layer_blocks[0])  # type: ignore[index]
    for part in (F.backbone, F.pyramid):
        freeze(part)
    run.place(F)
    learner = Learner(F.extension, settings.extension.descent, settings.extension.steps)
    look = Canvas(F.mean, divisible=2 * F.divisible)
    extend = Tiled(F.extended, settings.distillation.tile) if settings.distillation.tile else F.extended

    def step(images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
        batch, found = look(images, targets)
        student, teacher = cross_resolution(
            teacher=lambda large: supervision(F(large)),
            student=lambda small: extend(F(small)),
            image=batch.tensors,
            shrink=lambda large: nnf.avg_pool2d(large, 2),  # of the padded batch, so that cells lie on cells
        )
        masks = positive(teacher, [target["boxes"] for target in found])
        balanced = {"foreground": settings.distillation.balance * foreground(student, teacher, masks)}
        return learner.descend({"global": content(student, teacher)} | balanced)

    fit(step, larger(settings, shown, run.seed), settings.extension.steps, run, {"extension": learner}, "extension")


def supervision(features: Features) -> Features:
    """The teacher's maps under the names of the levels that they teach."""
    return {level: features[name] for level, name in SUPERVISES.items()}


@torch.inference_mode()
def maps(T: GeneralizedRCNN, image: Tensor) -> dict[str, Features]:
    """What p3x and p2x of ``image [3, H, W]`` should be, and what T's extension makes of it, under "target" and "extension" (Fig. 6).

    T is in evaluation mode.
    """
    F, _ = parts(T)
    batch = T.transform([image])[0].tensors
    large = nnf.interpolate(batch, scale_factor=2.0, mode="bilinear", align_corners=False)
    return {"target": {"image": batch, **supervision(F(large))}, "extension": F.extended(F(batch))}


def positive(teacher: Features, boxes: Sequence[Tensor]) -> Features:
    """The cells of the teacher's maps that an object touches, whatever its class and size; boxes in px of the teacher's picture."""
    return {level: rasterised(boxes, 2 * stride(level), (x.shape[-2], x.shape[-1])) for level, x in teacher.items()}


def larger(settings: Settings, shown: Pictures, seed: int) -> Batches:
    """The teacher's pictures: those of the data at ``scale`` times the size, flipped and perhaps cropped alike."""
    how = settings.distillation
    cut: list[Augmentation] = [Window(how.crop)] if how.crop else []
    if how.pictures:
        view = [*sized(settings.data, how.scale), *cut]
        return Batches(Photographs(how.pictures), settings.data.batch, seed, view, workers=settings.data.workers)
    return labelled(settings, shown, seed, how.scale, cut)


def labelled(
    settings: Settings, shown: Pictures, seed: int, scale: float = 1.0, then: Sequence[Augmentation] = ()
) -> Batches:
    """The data's pictures at ``scale`` times the size that T will see, balanced, and changed by what comes ``then``."""
    view = [*sized(settings.data, scale), *settings.balance.view(scale), *then]
    weights = settings.balance.weights(shown)
    return Batches(shown, settings.data.batch, seed, view, weights=weights, workers=settings.data.workers)


def sized(data: Data, scale: float) -> list[Augmentation]:
    """Flipped, and resized to ``scale`` times what the data's settings say."""
    if not data.short:
        return [Flip(data.flip)]
    return [Flip(data.flip), Resize([round(side * scale) for side in data.short], round(data.longest * scale))]


# ---------------------------------------------------------------------------------------------------- phase 3: Sec. IV-A


def second_head(T: GeneralizedRCNN, settings: Settings, shown: Pictures, run: Run) -> None:
    """The new head, from a copy of the old one, on small RoIs of the frozen RPN; the extension too, if ``extension_learns``."""
    F, heads = parts(T)
    for new, old in zip(heads.fine.children(), (heads.coarse.box_head, heads.coarse.box_predictor), strict=True):
        new.load_state_dict(old.state_dict())
    still = [T.rpn, heads.coarse, F.backbone, F.pyramid] + ([] if settings.extension_learns else [F.extension])
    for part in still:
        freeze(part)
    run.place(T)
    baseline.descend(T, labelled(settings, shown, run.seed), settings.head, run, "head")  # type: ignore[arg-type]


def save(T: GeneralizedRCNN, settings: Settings, classes: Sequence[str], folder: Path) -> Path:
    """Write T with what is needed to build it again; `featlift.papers.baseline.load` reads it."""
    model = json.dumps(asdict(replace(settings.model, weights="random")))
    words = {
        "paper": "efpn",
        "model": model,
        "finer": json.dumps(asdict(settings.finer)),
        "classes": json.dumps(list(classes)),
    }
    return write_tensors(folder / baseline.DETECTOR_FILE, T.state_dict(), words)


def described(words: Mapping[str, str]) -> GeneralizedRCNN:
    """The T that the words in a file of :func:`save` describe, with random weights."""
    finer = Finer(**json.loads(words["finer"]))
    T = extended(baseline.described(words), finer)
    read_as(T, finer)
    return T
