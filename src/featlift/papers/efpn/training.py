"""EFPN's three training phases (Secs. III-C and IV-A)."""

import warnings
from collections.abc import Sequence

import torch.nn.functional as nnf
from torch import Tensor
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN

from featlift.baseline.training import save_trained_detector, train_detector
from featlift.data.augment import Augmentation, RandomHorizontalFlip, RandomShortestSize
from featlift.data.batches import ResumableDataLoader
from featlift.data.config import DataConfig, build_dataset, load_training_set
from featlift.data.crops import RandomCrop
from featlift.data.dataset import ImageDataset
from featlift.data.image_folder import UnlabeledImageFolder
from featlift.data.reduced_images import reduce_images
from featlift.data.tt100k import TT100KDataset
from featlift.detectors import Detector
from featlift.detectors.batch_transform import BatchTransform
from featlift.detectors.checkpoint import load_detector, load_matching_weights
from featlift.detectors.config import build_detector
from featlift.detectors.efpn_config import build_efpn, configure_inference, efpn_modules
from featlift.detectors.sparse_level import TiledExtension
from featlift.features import Features, Target, boxes_to_mask, level_stride
from featlift.losses import foreground_l1, pyramid_l1
from featlift.papers.efpn.settings import TT100K_MIN_SIZE, Settings
from featlift.pyramids.efpn import init_extended_level
from featlift.resolution import cross_resolution, freeze
from featlift.runs.announce import describe_detector_training
from featlift.training import Learner, Run, fit

BASE_DETECTOR_FILE = "base_detector.safetensors"


TEACHER_LEVELS = {"p3x": "inner3", "p2x": "p2"}
"""Level of the student → level of its teacher on the 2x image, Eq. (5); "inner3" is p3 with ``inputs="outputs"``."""


def train(settings: Settings, run: Run) -> GeneralizedRCNN:
    """Run the three phases and return T, saved as ``detector.safetensors``; a phase that ``run`` has finished is only loaded.

    Raises:
        TypeError: If M cannot be extended (unsupported detector, pyramid or backbone), before any training.
        ValueError: If ``detector_from`` is another network than ``model``.
    """
    dataset = load_training_set(settings.data, run)
    M = build_detector(settings.model, len(dataset.classes))
    T = build_efpn(M, settings.extended_level)
    train_base_detector(M, settings, dataset, run)
    distill_extension(T, settings, dataset, run)
    train_small_roi_head(T, settings, dataset, run)
    configure_inference(T, settings.extended_level)
    save_trained_detector(run, T, settings.model, dataset.classes, extended_level=settings.extended_level)
    return T


def describe_efpn_training(settings: Settings, stop_after: str = "") -> str:
    """Describe the training (`describe_detector_training`); warns if the sizes of TT100K's experiment are used with other data."""
    if settings.data.min_size == TT100K_MIN_SIZE and not isinstance(build_dataset(settings.data), TT100KDataset):
        warnings.warn(
            f"Images are resized to {TT100K_MIN_SIZE[0]} px and anchors are halved, as for TT100K; for COCO choose --preset coco, for "
            "your own images --preset finetune.",
            stacklevel=2,
        )
    return describe_detector_training(settings, stop_after)


def train_base_detector(M: Detector, settings: Settings, dataset: ImageDataset, run: Run) -> None:
    """Phase 1: train M, or load it from ``settings.detector_from``, and save it as ``base_detector.safetensors`` for comparison with T."""
    if settings.detector_from:
        missing = load_matching_weights(M, load_detector(settings.detector_from)[0].state_dict())
        if missing:
            raise ValueError(
                f"'{settings.detector_from}' is another network than 'model' describes: it lacks {len(missing)} tensors, "
                f"such as {', '.join(missing[:3])}. Set 'model' to the model it was trained with."
            )
    else:
        train_detector(M, build_labeled_loader(settings, dataset, run.seed), settings.detector, run, "detector")
    save_trained_detector(run, M, settings.model, dataset.classes, BASE_DETECTOR_FILE)


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
        student, teacher = (
            {level: maps[level] for level in settings.distillation.levels} for maps in (student, teacher)
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
            UnlabeledImageFolder(config.unlabeled_images, max_pixels=settings.data.max_pixels),
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
    balance, sizes = settings.class_balance, scaled_sizes(settings.data, scale)
    return ResumableDataLoader(
        reduce_images(dataset, *sizes) if settings.data.fast_decode else dataset,
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
        RandomShortestSize(*scaled_sizes(config, scale)),
    ]


def scaled_sizes(config: DataConfig, scale: float) -> tuple[list[int], int]:
    """Return short sides and maximum long side of ``config`` in pixels, times ``scale``."""
    return [round(side * scale) for side in config.min_size], round(config.max_size * scale)


def train_small_roi_head(T: GeneralizedRCNN, settings: Settings, dataset: ImageDataset, run: Run) -> None:
    """Phase 3: train the new head, a copy of the old one, on small RoIs of the frozen RPN; also the extension if ``train_extension``."""
    F, heads = efpn_modules(T)
    for new, old in zip(heads.fine.children(), (heads.coarse.box_head, heads.coarse.box_predictor), strict=True):
        new.load_state_dict(old.state_dict())
    frozen = [T.rpn, heads.coarse, F.backbone, F.pyramid] + ([] if settings.train_extension else [F.extension])
    for module in frozen:
        freeze(module)
    run.to_device(T)
    train_detector(T, build_labeled_loader(settings, dataset, run.seed), settings.head, run, "head")  # type: ignore[arg-type]
