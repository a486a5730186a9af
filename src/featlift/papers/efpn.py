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
from featlift.data.augment import Augmentation, RandomHorizontalFlip, RandomShortestSize
from featlift.data.batches import ResumableDataLoader
from featlift.data.class_balance import ClassBalance
from featlift.data.crops import RandomCrop
from featlift.data.dataset import ImageDataset
from featlift.data.image_folder import UnlabeledImageFolder
from featlift.detectors import Detector
from featlift.detectors.batch_transform import BatchTransform
from featlift.detectors.efpn_config import ExtendedLevelConfig, build_efpn, configure_inference, efpn_modules
from featlift.detectors.sparse_level import TiledExtension
from featlift.features import Features, level_stride
from featlift.losses import boxes_to_mask, foreground_l1, pyramid_l1
from featlift.papers import baseline
from featlift.papers.baseline import DataConfig, DetectorConfig, StageConfig
from featlift.pyramids.efpn import init_extended_level
from featlift.resolution import cross_resolution, freeze
from featlift.training import Learner, OptimizerConfig, Run, fit

Target = dict[str, Tensor]
BASE_DETECTOR_FILE = "plain.safetensors"
TEACHER_LEVELS = {"p3x": "inner3", "p2x": "p2"}
"""Level of the student → level of the teacher that it should equal, at twice the picture (Eq. 5)."""


@dataclass(frozen=True)
class DistillationConfig:
    """What phase 2 looks at.

    Attributes:
        image_scale: the teacher's pictures relative to ``data.short``: with 2 the student sees the sizes that T will see.
        foreground_weight: λ of the foreground term (Sec. IV-A); 0 leaves it out.
        crop_size: side of random squares of the teacher's picture, in px, where memory is short (a multiple of 64); 0 takes all of it.
        unlabeled_images: a folder of pictures without boxes to learn from instead of the data; then only the global term teaches.
        tile_size: where memory is short: side in cells of stride 8 of the tiles in which the extension is computed one by one, and again for
            the backward pass, with the same result (8 is a good start); 0 computes all at once.
    """

    image_scale: float = 2.0
    foreground_weight: float = 1.0
    crop_size: int = 0
    unlabeled_images: str = ""
    tile_size: int = 0


@dataclass(frozen=True)
class Settings:
    """The three phases. Defaults are the paper's TT100K experiment; rates and lengths of phases 2 and 3 are ours, for it gives none.

    Attributes:
        model: M: a Faster or Mask R-CNN on an FPN or PAFPN, with a backbone of the ResNet family.
        data: pictures, sizes and batch.
        extended_level: the extended level.
        distillation: what phase 2 looks at.
        class_balance: rare classes shown more often, cut and colored anew. The paper has 1000 and gives no crop; for COCO take wanted 0.
        detector: phase 1.
        extension: phase 2.
        head: phase 3; with 0 steps the new head stays a copy of the old one (the release on COCO).
        detector_from: run folder or detector file of M; phase 1 is then left out.
        train_extension: train the extension in phase 3, too, as the release does.
    """

    model: DetectorConfig = field(
        default_factory=lambda: DetectorConfig(
            "faster-rcnn", detector_options={"anchor_scale": 4.0, "test_size": [1400, 4000]}
        )
    )
    data: DataConfig = field(
        default_factory=lambda: DataConfig(min_size=(1400,), max_size=4000)
    )  # Sec. IV-A: 1400 x 1400
    extended_level: ExtendedLevelConfig = field(default_factory=ExtendedLevelConfig)
    distillation: DistillationConfig = field(default_factory=DistillationConfig)
    class_balance: ClassBalance = field(default_factory=lambda: ClassBalance(min_per_class=1000, crop_size=1024))
    detector: StageConfig = field(default_factory=lambda: StageConfig(90_000, baseline.sgd_1x()))
    extension: StageConfig = field(
        default_factory=lambda: StageConfig(
            90_000, OptimizerConfig("adamw", lr=1e-4, schedule="cosine", max_grad_norm=1.0)
        )
    )
    head: StageConfig = field(
        default_factory=lambda: StageConfig(30_000, OptimizerConfig("sgd", lr=0.005, warmup_steps=1000))
    )
    detector_from: str = ""
    train_extension: bool = True

    def __post_init__(self) -> None:
        if self.distillation.image_scale != 1 and not self.data.min_size:
            raise ValueError(
                f"distillation.scale is {self.distillation.image_scale}, but data.short is empty, so pictures keep their size. Give data.short "
                "(the size T will see), or scale 1: then the student sees half of each picture."
            )

    @classmethod
    def official(cls) -> "Settings":
        """As the release does: FTT of width 512 from random weights, both heads judge small RoIs."""
        return cls(extended_level=ExtendedLevelConfig("authors", routing="duplicate", init="random"))

    @classmethod
    def quick(cls) -> "Settings":
        """The laptop's: a small Faster R-CNN on the built-in scenes, taught by itself on scenes drawn twice as large."""
        return cls(
            model=baseline.quick_detector_config(),
            data=replace(baseline.quick_data_config(), min_size=(160,)),
            class_balance=ClassBalance(),
            extended_level=ExtendedLevelConfig(transfer_options={"width": 32}, small_roi_size=32.0),
            detector=StageConfig(600, baseline.quick_optimizer()),
            extension=StageConfig(150, baseline.quick_optimizer()),
            head=StageConfig(150, baseline.quick_optimizer()),
        )


def train(settings: Settings, run: Run) -> GeneralizedRCNN:
    """The three phases, one after the other; what ``run`` has finished is only loaded. T is saved as ``detector.safetensors``.

    Raises:
        TypeError: if M cannot be extended (other detectors, pyramids or backbones), before anything is trained.
        ValueError: if ``detector_from`` names another network than ``model``.
    """
    shown = baseline.load_training_set(settings.data, run)
    M = baseline.build_detector(settings.model, len(shown.classes))
    T = build_efpn(M, settings.extended_level)
    train_base_detector(M, settings, shown, run)
    distil_extension(T, settings, shown, run)
    train_small_roi_head(T, settings, shown, run)
    configure_inference(T, settings.extended_level)
    save_efpn(T, settings, shown.classes, run.folder)
    return T


# ---------------------------------------------------------------------------------------------------- phase 1: Sec. IV-A


def train_base_detector(M: Detector, settings: Settings, dataset: ImageDataset, run: Run) -> None:
    """M trained as it is, or taken from ``settings.detector_from``; saved as ``plain.safetensors``, to be compared with T."""
    if settings.detector_from:
        missing = baseline.load_matching_weights(M, baseline.load_detector(settings.detector_from)[0].state_dict())
        if missing:
            raise ValueError(
                f"'{settings.detector_from}' is another network than 'model' describes: {len(missing)} tensors have no partner there, "
                f"such as {', '.join(missing[:3])}. Give the model it was trained with."
            )
    else:
        baseline.train_detector(
            M, build_labeled_loader(settings, dataset, run.seed), settings.detector, run, "detector"
        )
    baseline.save_detector(M, settings.model, dataset.classes, run.folder, BASE_DETECTOR_FILE)


# ---------------------------------------------------------------------------------------------------- phase 2: Sec. III-C, Eqs. (5) to (8)


def distil_extension(T: GeneralizedRCNN, settings: Settings, dataset: ImageDataset, run: Run) -> None:
    """The extension's p3x and p2x of a halved batch against inner3 and p2 of the batch itself; nothing else moves."""
    F, _ = efpn_modules(T)
    if settings.extended_level.init == "detector":
        init_extended_level(F.extension, F.pyramid.inner_blocks[0], F.pyramid.layer_blocks[0])  # type: ignore[index]
    for part in (F.backbone, F.pyramid):
        freeze(part)
    run.to_device(F)
    learner = Learner(F.extension, settings.extension.optimizer, settings.extension.steps)
    look = BatchTransform(F.mean, size_divisible=2 * F.size_divisible)
    extend = (
        TiledExtension(F.extended_levels, settings.distillation.tile_size)
        if settings.distillation.tile_size
        else F.extended_levels
    )

    def step(images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
        batch, found = look(images, targets)
        student, teacher = cross_resolution(
            teacher=lambda large: select_teacher_levels(F(large)),
            student=lambda small: extend(F(small)),
            image=batch.tensors,
            downscale=lambda large: nnf.avg_pool2d(large, 2),  # of the padded batch, so that cells lie on cells
        )
        masks = foreground_masks(teacher, [target["boxes"] for target in found])
        balanced = {"foreground": settings.distillation.foreground_weight * foreground_l1(student, teacher, masks)}
        return learner.step({"global": pyramid_l1(student, teacher)} | balanced)

    fit(
        step,
        build_distillation_loader(settings, dataset, run.seed),
        settings.extension.steps,
        run,
        {"extension": learner},
        "extension",
    )


def select_teacher_levels(features: Features) -> Features:
    """The teacher's maps under the names of the levels that they teach."""
    return {level: features[name] for level, name in TEACHER_LEVELS.items()}


@torch.inference_mode()
def extended_level_maps(T: GeneralizedRCNN, image: Tensor) -> dict[str, Features]:
    """What p3x and p2x of ``image [3, H, W]`` should be, and what T's extension makes of it, under "target" and "extension" (Fig. 6).

    T is in evaluation mode.
    """
    F, _ = efpn_modules(T)
    batch = T.transform([image])[0].tensors
    large = nnf.interpolate(batch, scale_factor=2.0, mode="bilinear", align_corners=False)
    return {"target": {"image": batch, **select_teacher_levels(F(large))}, "extension": F.extended_levels(F(batch))}


def foreground_masks(teacher: Features, boxes: Sequence[Tensor]) -> Features:
    """The cells of the teacher's maps that an object touches, whatever its class and size; boxes in px of the teacher's picture."""
    return {
        level: boxes_to_mask(boxes, 2 * level_stride(level), (x.shape[-2], x.shape[-1])) for level, x in teacher.items()
    }


def build_distillation_loader(settings: Settings, dataset: ImageDataset, seed: int) -> ResumableDataLoader:
    """The teacher's pictures: those of the data at ``scale`` times the size, flipped and perhaps cropped alike."""
    how = settings.distillation
    cut: list[Augmentation] = [RandomCrop(how.crop_size)] if how.crop_size else []
    if how.unlabeled_images:
        view = [*flip_and_resize(settings.data, how.image_scale), *cut]
        return ResumableDataLoader(
            UnlabeledImageFolder(how.unlabeled_images),
            settings.data.batch_size,
            seed,
            view,
            num_workers=settings.data.num_workers,
        )
    return build_labeled_loader(settings, dataset, seed, how.image_scale, cut)


def build_labeled_loader(
    settings: Settings,
    dataset: ImageDataset,
    seed: int,
    scale: float = 1.0,
    extra_augmentations: Sequence[Augmentation] = (),
) -> ResumableDataLoader:
    """The data's pictures at ``scale`` times the size that T will see, balanced, and changed by what comes ``extra_augmentations``."""
    view = [*flip_and_resize(settings.data, scale), *settings.class_balance.augmentations(scale), *extra_augmentations]
    weights = settings.class_balance.image_weights(dataset)
    return ResumableDataLoader(
        dataset, settings.data.batch_size, seed, view, image_weights=weights, num_workers=settings.data.num_workers
    )


def flip_and_resize(config: DataConfig, scale: float) -> list[Augmentation]:
    """Flipped, and resized to ``scale`` times what the data's settings say."""
    if not config.min_size:
        return [RandomHorizontalFlip(config.hflip_prob)]
    return [
        RandomHorizontalFlip(config.hflip_prob),
        RandomShortestSize([round(side * scale) for side in config.min_size], round(config.max_size * scale)),
    ]


# ---------------------------------------------------------------------------------------------------- phase 3: Sec. IV-A


def train_small_roi_head(T: GeneralizedRCNN, settings: Settings, dataset: ImageDataset, run: Run) -> None:
    """The new head, from a copy of the old one, on small RoIs of the frozen RPN; the extension too, if ``extension_learns``."""
    F, heads = efpn_modules(T)
    for new, old in zip(heads.fine.children(), (heads.coarse.box_head, heads.coarse.box_predictor), strict=True):
        new.load_state_dict(old.state_dict())
    still = [T.rpn, heads.coarse, F.backbone, F.pyramid] + ([] if settings.train_extension else [F.extension])
    for part in still:
        freeze(part)
    run.to_device(T)
    baseline.train_detector(T, build_labeled_loader(settings, dataset, run.seed), settings.head, run, "head")  # type: ignore[arg-type]


def save_efpn(T: GeneralizedRCNN, settings: Settings, classes: Sequence[str], folder: Path) -> Path:
    """Write T with what is needed to build it again; `featlift.papers.baseline.load_detector` reads it."""
    model = json.dumps(asdict(replace(settings.model, backbone_weights="random")))
    words = {
        "paper": "efpn",
        "model": model,
        "finer": json.dumps(asdict(settings.extended_level)),
        "classes": json.dumps(list(classes)),
    }
    return write_tensors(folder / baseline.DETECTOR_FILE, T.state_dict(), words)


def efpn_from_metadata(metadata: Mapping[str, str]) -> GeneralizedRCNN:
    """The T that the words in a file of :func:`save_efpn` describe, with random weights."""
    finer = ExtendedLevelConfig(**json.loads(metadata["finer"]))
    T = build_efpn(baseline.detector_from_metadata(metadata), finer)
    configure_inference(T, finer)
    return T
