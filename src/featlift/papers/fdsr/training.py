"""Training of FDSR's super-resolution network (Sec. 2, Eq. (4)), alone or jointly with the detector (SR4IR)."""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from featlift.checkpoints import save, write_tensors
from featlift.checkpoints.tensors import read_metadata
from featlift.data.augment import Augmentation, MapLabels, RandomHorizontalFlip
from featlift.data.batches import ResumableDataLoader
from featlift.data.config import DataConfig, build_dataset
from featlift.data.crops import RandomCrop, select_large_images
from featlift.data.dataset import ImageDataset
from featlift.data.image_folder import UnlabeledImageFolder
from featlift.data.open_dataset import is_dataset
from featlift.detectors.by_name import load_class_names, load_detector_by_name
from featlift.detectors.checkpoint import DETECTOR_FILE
from featlift.detectors.eval_mode import eval_mode
from featlift.detectors.feature_extraction import detector_feature_extractor
from featlift.detectors.super_resolved import SRDetector
from featlift.evaluation.class_mapping import find_detector_labels
from featlift.features import Target
from featlift.image_sr.checkpoint import SUPER_RESOLVER_FILE
from featlift.image_sr.degradation import build_degradation
from featlift.image_sr.network import build_super_resolver
from featlift.papers.fdsr.loss import LossDict, SuperResolutionLoss, build_loss
from featlift.papers.fdsr.settings import CropDataConfig, Settings
from featlift.resolution import cross_resolution, frozen_copy
from featlift.training import Learner, Run, fit
from featlift.training.schedules import StageConfig


def train(settings: Settings, run: Run) -> nn.Module:
    """Train G in ``run`` and save it as ``super_resolver.safetensors``; an existing run is resumed, a finished one loaded.

    With ``settings.detector_optimizer`` the jointly trained detector is saved, too, as ``detector.safetensors``.
    """
    G = build_super_resolver(settings.network)
    dataset = build_crop_dataset(settings.data, run.seed)
    loader = build_labeled_crop_loader(dataset, settings.data, run.seed, find_loss_labels(settings, dataset))
    if settings.detector_optimizer is None:
        train_super_resolver(G, settings, loader, run)
    else:
        T = load_detector_by_name(settings.feature_extractor.network, "DEFAULT")
        train_jointly(G, T, settings, loader, run)
        save_joint_detector(T, settings.feature_extractor.network, run.folder)
    save(G, run.folder / SUPER_RESOLVER_FILE)
    return G


def save_joint_detector(T: nn.Module, source: str, folder: Path) -> Path:
    """Write T, a fine-tuned detector of the run folder or file ``source``, as ``detector.safetensors`` with the metadata of ``source``.

    Torchvision detectors are written without metadata; their name is in ``settings.json``, see
    `featlift.papers.fdsr.pipelines.joint_detector_source`.
    """
    origin = Path(source) / DETECTOR_FILE if Path(source).is_dir() else Path(source)
    return write_tensors(folder / DETECTOR_FILE, T.state_dict(), read_metadata(origin) if origin.exists() else {})


def train_super_resolver(G: nn.Module, settings: Settings, loader: ResumableDataLoader, run: Run) -> None:
    """Train G with the losses between its output and the original image under a frozen F, Eq. (4)."""
    learner = Learner(G, settings.train.optimizer, settings.train.steps)
    criterion = build_loss(settings, run)
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
        ValueError: If ``settings.detector_optimizer`` is None.
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


def find_loss_labels(settings: Settings, dataset: ImageDataset | None = None) -> dict[int, int] | None:
    """Label of the training data → label of the detector whose losses are trained, by class name; None if there are no such losses.

    ``dataset`` are the training images; by default they are opened.

    Raises:
        ValueError: If the data have a class that the detector does not know, or no annotations.
    """
    if not settings.loss_weights.detection and settings.detector_optimizer is None:
        return None
    dataset = dataset or open_crop_images(settings.data)
    if not dataset.classes:
        raise ValueError(
            f"{settings.data.root} has no annotations, which the detection losses need: give --data FOLDER with annotations, or "
            "--loss-weights.detection 0 and no --detector-optimizer.lr."
        )
    return find_detector_labels(
        load_class_names(settings.feature_extractor.network), dataset, settings.evaluation.class_map
    )


def open_crop_images(config: CropDataConfig) -> ImageDataset:
    """Open the training images: a dataset in any format, or else all image files in the folder."""
    if config.root == "scenes" or is_dataset(config.root):
        return build_dataset(DataConfig(root=config.root, max_pixels=config.max_pixels))
    return UnlabeledImageFolder(config.root, max_pixels=config.max_pixels)


def build_crop_dataset(config: CropDataConfig, seed: int) -> ImageDataset:
    """Build the dataset of images at least as large as a crop."""
    return select_large_images(open_crop_images(config), config.crop_size, config.num_images or None, seed)


def build_crop_loader(config: CropDataConfig, seed: int) -> ResumableDataLoader:
    """Build endless batches of random crops of one size."""
    return build_labeled_crop_loader(build_crop_dataset(config, seed), config, seed)


def build_labeled_crop_loader(
    dataset: ImageDataset, config: CropDataConfig, seed: int, labels: Mapping[int, int] | None = None
) -> ResumableDataLoader:
    """Build endless batches of random crops of ``dataset``; ``labels`` maps its labels to those of a detector."""
    augmentations: list[Augmentation] = [RandomCrop(config.crop_size), RandomHorizontalFlip(config.hflip_prob)]
    augmentations += [MapLabels(labels)] if labels else []
    return ResumableDataLoader(
        dataset,
        config.batch_size,
        seed,
        augmentations,
        group_by_aspect_ratio=False,
        num_workers=config.num_workers,
    )
