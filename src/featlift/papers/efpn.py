"""EFPN (Deng et al., IEEE Transactions on Multimedia 2021): an extended pyramid level for small objects, distilled from 2x images.

M is the base detector; F is its extractor with the extension, which computes p3x and p2x; T is M with the extended level and a second box
head for small RoIs. Phase 1 trains M; phase 2 distills F's pyramid of the 2x image into the extension (Sec. III-C), with everything else
frozen; phase 3 trains the new head on p2x with online hard example mining (Sec. IV-A).

The paper says little about phases 2 and 3; :class:`Settings` marks the choices it leaves open. Where the authors' anonymous code release
differs, :meth:`Settings.official` follows it; `docs/papers/efpn.md` lists the differences.
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
BASE_DETECTOR_FILE = "base_detector.safetensors"
TEACHER_LEVELS = {"p3x": "inner3", "p2x": "p2"}
"""Level of the student → level of its teacher on the 2x image, Eq. (5)."""


@dataclass(frozen=True)
class DistillationConfig:
    """Images, losses and memory use of phase 2.

    Attributes:
        image_scale: Size of the teacher's images relative to ``data.min_size``; with 2 the student gets the image sizes of T.
        foreground_weight: Weight λ of the foreground term (Sec. IV-A); 0 disables it.
        crop_size: Side in pixels of random square crops of the teacher's image, to save memory (a multiple of 64); 0 for whole images.
        unlabeled_images: Folder of images without boxes to train on instead of the data; then only the global term is used.
        tile_size: Side of the tiles in which the extension is computed, and recomputed in the backward pass, to save memory, in cells of
            stride 8 (8 is a good start); the result is the same. 0 computes whole maps.
    """

    image_scale: float = 2.0
    foreground_weight: float = 1.0
    crop_size: int = 0
    unlabeled_images: str = ""
    tile_size: int = 0


@dataclass(frozen=True)
class Settings:
    """The three phases. Defaults are the paper's TT100K experiment; learning rates and lengths of phases 2 and 3 are FeatLift's choice.

    Attributes:
        model: Base detector M: a Faster or Mask R-CNN on an FPN or PAFPN, with a backbone of the ResNet family.
        data: Images, sizes and batch size.
        extended_level: Extended level.
        distillation: Images and losses of phase 2.
        class_balance: Oversampling of rare classes with crops and color jitter. The paper uses 1000 and gives no crop size; for COCO set
            min_per_class to 0.
        detector: Phase 1.
        extension: Phase 2.
        head: Phase 3; with 0 steps the new head stays a copy of the old one (the release on COCO).
        detector_from: Run folder or detector file of M; phase 1 is then skipped.
        train_extension: Also train the extension in phase 3, as the release does.
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
                f"distillation.image_scale is {self.distillation.image_scale}, but data.min_size is empty, so images keep their size. "
                "Set data.min_size (T's image size), or image_scale to 1: then the student gets each image at half the size."
            )

    @classmethod
    def official(cls) -> "Settings":
        """As in the code release: FTT with 512 channels from random weights, small RoIs classified by both heads."""
        return cls(extended_level=ExtendedLevelConfig("ftt-512", routing="duplicate", init="random"))

    @classmethod
    def quick(cls) -> "Settings":
        """Laptop preset: a small Faster R-CNN on synthetic scenes, with its own features of 2x scenes as teacher."""
        return cls(
            model=baseline.quick_detector_config(),
            data=replace(baseline.quick_data_config(), min_size=(160,)),
            class_balance=ClassBalance(),
            extended_level=ExtendedLevelConfig(transfer_options={"hidden_channels": 32}, small_roi_size=32.0),
            detector=StageConfig(600, baseline.quick_optimizer()),
            extension=StageConfig(150, baseline.quick_optimizer()),
            head=StageConfig(150, baseline.quick_optimizer()),
        )


def train(settings: Settings, run: Run) -> GeneralizedRCNN:
    """Run the three phases and return T, saved as ``detector.safetensors``; a phase that ``run`` has finished is only loaded.

    Raises:
        TypeError: if M cannot be extended (unsupported detector, pyramid or backbone), before any training.
        ValueError: if ``detector_from`` is another network than ``model``.
    """
    dataset = baseline.load_training_set(settings.data, run)
    M = baseline.build_detector(settings.model, len(dataset.classes))
    T = build_efpn(M, settings.extended_level)
    train_base_detector(M, settings, dataset, run)
    distill_extension(T, settings, dataset, run)
    train_small_roi_head(T, settings, dataset, run)
    configure_inference(T, settings.extended_level)
    save_efpn(T, settings, dataset.classes, run.folder)
    return T


# ---------------------------------------------------------------------------------------------------- phase 1: Sec. IV-A


def train_base_detector(M: Detector, settings: Settings, dataset: ImageDataset, run: Run) -> None:
    """Phase 1: train M, or load it from ``settings.detector_from``, and save it as ``base_detector.safetensors`` for comparison with T."""
    if settings.detector_from:
        missing = baseline.load_matching_weights(M, baseline.load_detector(settings.detector_from)[0].state_dict())
        if missing:
            raise ValueError(
                f"'{settings.detector_from}' is another network than 'model' describes: it lacks {len(missing)} tensors, "
                f"such as {', '.join(missing[:3])}. Set 'model' to the model it was trained with."
            )
    else:
        baseline.train_detector(
            M, build_labeled_loader(settings, dataset, run.seed), settings.detector, run, "detector"
        )
    baseline.save_detector(M, settings.model, dataset.classes, run.folder, BASE_DETECTOR_FILE)


# ---------------------------------------------------------------------------------------------------- phase 2: Sec. III-C, Eqs. (5) to (8)


def distill_extension(T: GeneralizedRCNN, settings: Settings, dataset: ImageDataset, run: Run) -> None:
    """Phase 2: train the extension, whose p3x and p2x of the downscaled batch should equal inner3 and p2 of the batch."""
    F, _ = efpn_modules(T)
    if settings.extended_level.init == "detector":
        init_extended_level(F.extension, F.pyramid.inner_blocks[0], F.pyramid.layer_blocks[0])  # type: ignore[index]
    for module in (F.backbone, F.pyramid):
        freeze(module)
    run.to_device(F)
    learner = Learner(F.extension, settings.extension.optimizer, settings.extension.steps)
    transform = BatchTransform(F.mean, size_divisible=2 * F.size_divisible)
    extend = (
        TiledExtension(F.extended_levels, settings.distillation.tile_size)
        if settings.distillation.tile_size
        else F.extended_levels
    )

    def step(images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
        batch, batch_targets = transform(images, targets)
        student, teacher = cross_resolution(
            teacher=lambda large: select_teacher_levels(F(large)),
            student=lambda small: extend(F(small)),
            image=batch.tensors,
            downscale=lambda large: nnf.avg_pool2d(large, 2),  # of the padded batch, so that cells are aligned
        )
        masks = foreground_masks(teacher, [target["boxes"] for target in batch_targets])
        foreground = settings.distillation.foreground_weight * foreground_l1(student, teacher, masks)
        return learner.step({"global": pyramid_l1(student, teacher), "foreground": foreground})

    fit(
        step,
        build_distillation_loader(settings, dataset, run.seed),
        settings.extension.steps,
        run,
        {"extension": learner},
        "extension",
    )


def select_teacher_levels(features: Features) -> Features:
    """Return the teacher's maps under the names of the student's levels."""
    return {level: features[name] for level, name in TEACHER_LEVELS.items()}


@torch.inference_mode()
def extended_level_maps(T: GeneralizedRCNN, image: Tensor) -> dict[str, Features]:
    """Return the target maps p3x and p2x of ``image [3, H, W]`` as "target", and those of T's extension as "extension" (Fig. 6).

    T must be in evaluation mode.
    """
    F, _ = efpn_modules(T)
    batch = T.transform([image])[0].tensors
    large = nnf.interpolate(batch, scale_factor=2.0, mode="bilinear", align_corners=False)
    return {"target": {"image": batch, **select_teacher_levels(F(large))}, "extension": F.extended_levels(F(batch))}


def foreground_masks(teacher: Features, boxes: Sequence[Tensor]) -> Features:
    """Return masks of the cells of the teacher's maps that any object overlaps; ``boxes`` in pixels of the teacher's image."""
    return {
        level: boxes_to_mask(boxes, 2 * level_stride(level), (x.shape[-2], x.shape[-1])) for level, x in teacher.items()
    }


def build_distillation_loader(settings: Settings, dataset: ImageDataset, seed: int) -> ResumableDataLoader:
    """Build batches of the teacher's images: the data at ``image_scale`` times the size, flipped and optionally cropped."""
    config = settings.distillation
    crop: list[Augmentation] = [RandomCrop(config.crop_size)] if config.crop_size else []
    if config.unlabeled_images:
        augmentations = [*flip_and_resize(settings.data, config.image_scale), *crop]
        return ResumableDataLoader(
            UnlabeledImageFolder(config.unlabeled_images),
            settings.data.batch_size,
            seed,
            augmentations,
            num_workers=settings.data.num_workers,
        )
    return build_labeled_loader(settings, dataset, seed, config.image_scale, crop)


def build_labeled_loader(
    settings: Settings,
    dataset: ImageDataset,
    seed: int,
    scale: float = 1.0,
    extra_augmentations: Sequence[Augmentation] = (),
) -> ResumableDataLoader:
    """Build class-balanced batches of the data at ``scale`` times T's image size, with ``extra_augmentations`` at the end."""
    balance = settings.class_balance
    return ResumableDataLoader(
        dataset,
        settings.data.batch_size,
        seed,
        [*flip_and_resize(settings.data, scale), *balance.augmentations(scale), *extra_augmentations],
        image_weights=balance.image_weights(dataset),
        num_workers=settings.data.num_workers,
    )


def flip_and_resize(config: DataConfig, scale: float) -> list[Augmentation]:
    """Return a random flip, and a resize to ``scale`` times the sizes of ``config``."""
    if not config.min_size:
        return [RandomHorizontalFlip(config.hflip_prob)]
    return [
        RandomHorizontalFlip(config.hflip_prob),
        RandomShortestSize([round(side * scale) for side in config.min_size], round(config.max_size * scale)),
    ]


# ---------------------------------------------------------------------------------------------------- phase 3: Sec. IV-A


def train_small_roi_head(T: GeneralizedRCNN, settings: Settings, dataset: ImageDataset, run: Run) -> None:
    """Phase 3: train the new head, a copy of the old one, on small RoIs of the frozen RPN; also the extension if ``train_extension``."""
    F, heads = efpn_modules(T)
    for new, old in zip(heads.fine.children(), (heads.coarse.box_head, heads.coarse.box_predictor), strict=True):
        new.load_state_dict(old.state_dict())
    frozen = [T.rpn, heads.coarse, F.backbone, F.pyramid] + ([] if settings.train_extension else [F.extension])
    for module in frozen:
        freeze(module)
    run.to_device(T)
    baseline.train_detector(T, build_labeled_loader(settings, dataset, run.seed), settings.head, run, "head")  # type: ignore[arg-type]


def save_efpn(T: GeneralizedRCNN, settings: Settings, classes: Sequence[str], folder: Path) -> Path:
    """Write T with its configuration to ``folder`` and return the path; `featlift.papers.baseline.load_detector` loads it."""
    metadata = {
        "paper": "efpn",
        "model": json.dumps(asdict(replace(settings.model, backbone_weights="random"))),
        "extended_level": json.dumps(asdict(settings.extended_level)),
        "classes": json.dumps(list(classes)),
    }
    return write_tensors(folder / baseline.DETECTOR_FILE, T.state_dict(), metadata)


def efpn_from_metadata(metadata: Mapping[str, str]) -> GeneralizedRCNN:
    """Build T as described by the metadata of a file of :func:`save_efpn`, with random weights."""
    config = ExtendedLevelConfig(**json.loads(metadata["extended_level"]))
    T = build_efpn(baseline.detector_from_metadata(metadata), config)
    configure_inference(T, config)
    return T
