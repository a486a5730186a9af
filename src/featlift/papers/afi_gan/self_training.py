"""Self-training on unlabeled images (AFI-GAN, Table 1: the rows with COCO's unlabeled set, 57.3 AP with a Swin-L).

A trained detector labels the images; T is trained on batches of labeled and of pseudo-labeled images. The paper cites the method and gives
no setting of it, so all numbers here are FeatLift's choice: a score of at least 0.5, half of every batch, loss weight 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from featlift.baseline.best_checkpoint import BestCheckpoint
from featlift.baseline.training import train_detector
from featlift.data.coco import CocoDataset
from featlift.data.config import DataConfig, build_dataset, build_train_loader
from featlift.data.dataset import ImageDataset, coco_categories
from featlift.data.image_folder import UnlabeledImageFolder
from featlift.data.mixed_batches import MixedDataLoader
from featlift.detectors import Detector
from featlift.detectors.checkpoint import load_detector, read_class_names
from featlift.evaluation.class_mapping import match_classes
from featlift.evaluation.coco_files import write_coco_file
from featlift.evaluation.coco_metrics import Detection
from featlift.evaluation.detection import detect_on_all_processes
from featlift.features import Target
from featlift.runs.announce import describe_detector_training
from featlift.training import Run
from featlift.training.schedules import StageConfig

PSEUDO_LABELS_FILE = "pseudo_labels.json"
MIN_SIDE = 1.0
"""Shortest side of a pseudo-labeled box in pixels."""
PSEUDO_PREFIX = "pseudo_"
"""Prefix of the names of losses on pseudo-labeled images in the log."""


@dataclass(frozen=True)
class SelfTrainingConfig:
    """Training of T on unlabeled images, too; off if ``unlabeled_images`` is empty.

    Attributes:
        unlabeled_images: Folder of images without annotations, such as COCO's ``unlabeled2017``.
        labels_from: Run folder or detector file of the detector that labels them.
        score_threshold: Detections with at least this score become labels; images without any are left out.
        fraction: Fraction of pseudo-labeled images in every batch, rounded to whole images.
        loss_weight: Weight of the losses on pseudo-labeled images; those on labeled images have weight 1.
    """

    unlabeled_images: str = ""
    labels_from: str = ""
    score_threshold: float = 0.5
    fraction: float = 0.5
    loss_weight: float = 1.0

    def __post_init__(self) -> None:
        if bool(self.unlabeled_images) != bool(self.labels_from):
            raise ValueError(
                "Self-training needs both --self-training.unlabeled-images FOLDER and --self-training.labels-from RUN, the detector "
                "that labels them."
            )
        for name in ("score_threshold", "fraction"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"self_training.{name} is {getattr(self, name)}; give a number between 0 and 1.")
        if self.loss_weight <= 0:
            raise ValueError(f"self_training.loss_weight is {self.loss_weight}; give a number above 0.")

    def count_pseudo_labeled(self, batch_size: int) -> int:
        """Return the number of pseudo-labeled images in a batch of ``batch_size``.

        Raises:
            ValueError: If all or none of the images are.
        """
        count = round(self.fraction * batch_size)
        if not 0 < count < batch_size:
            raise ValueError(
                f"A fraction of {self.fraction} of a batch of {batch_size} is {count} pseudo-labeled images; both kinds need at least one. "
                "Change --self-training.fraction or --data.batch-size."
            )
        return count


def describe_training(settings: Any, stop_after: str = "") -> str:
    """Describe the training (`describe_detector_training`), after a check of the settings of self-training.

    Raises:
        FileNotFoundError: If the unlabeled images or the detector that labels them do not exist.
        ValueError: If its classes are not those of the dataset, or the batch is too small for both kinds of images.
    """
    description, config = describe_detector_training(settings, stop_after), settings.self_training
    if not config.unlabeled_images:
        return description
    count = config.count_pseudo_labeled(settings.data.batch_size)
    match_classes(read_class_names(config.labels_from), build_dataset(settings.data))
    images = UnlabeledImageFolder(config.unlabeled_images, max_pixels=settings.data.max_pixels)
    return f"{description}, {count} of them from {len(images):,} unlabeled images"


def train_on_pseudo_labels(
    T: Detector, config: SelfTrainingConfig, data: DataConfig, stage: StageConfig, run: Run, best: BestCheckpoint
) -> None:
    """Train T as stage "target" on batches of labeled and pseudo-labeled images.

    The losses of both are computed separately, so each is the mean over its own images, and summed: ``L + loss_weight · L_pseudo``.

    Raises:
        ValueError: If no detection is a label, or T predicts masks and the labels have none.
    """
    dataset = build_dataset(data)
    pseudo_labeled = open_pseudo_labeled(config, data, dataset, run)
    if "mask" in best.config.detector and not pseudo_labeled.has_masks:
        raise ValueError(
            f"{best.config.detector} is trained on masks, and {config.labels_from} predicts boxes only; label with a detector of masks."
        )
    count = config.count_pseudo_labeled(data.batch_size)
    loaders = (
        build_train_loader(replace(data, batch_size=size), images, run.seed)
        for size, images in ((data.batch_size - count, dataset), (count, pseudo_labeled))
    )

    def compute_losses(images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
        first = len(images) - count // run.world_size
        losses = T(images[:first], targets[:first])
        pseudo_losses = T(images[first:], targets[first:])
        weighted = {f"{PSEUDO_PREFIX}{name}": config.loss_weight * loss for name, loss in pseudo_losses.items()}
        return losses | weighted

    train_detector(T, MixedDataLoader(*loaders), stage, run, "target", best, compute_losses)


def open_pseudo_labeled(config: SelfTrainingConfig, data: DataConfig, dataset: ImageDataset, run: Run) -> CocoDataset:
    """Open the unlabeled images with the labels of ``pseudo_labels.json`` in the run folder, which is written first if it is missing.

    The file is a COCO file with the category ids of ``dataset`` and the score of each label; all processes detect.

    Raises:
        ValueError: If no detection is a label.
    """
    path = run.folder / PSEUDO_LABELS_FILE
    if not path.is_file():
        images = UnlabeledImageFolder(config.unlabeled_images, max_pixels=data.max_pixels)
        detector, classes = load_detector(config.labels_from)
        ids = match_classes(classes, dataset)
        found = detect_on_all_processes(detector, images, data.batch_size, run.device, data.num_workers, label_ids=ids)
        labels = select_pseudo_labels(found.detections, config.score_threshold)
        run.barrier()  # all processes have seen that the file is missing
        if run.rank == 0:
            write_pseudo_labels(path, images, labels, dataset)
        run.barrier()
    return CocoDataset(path, config.unlabeled_images, max_pixels=data.max_pixels)


def select_pseudo_labels(detections: Sequence[Detection], score_threshold: float) -> list[Detection]:
    """Return the detections that become labels: a score of at least ``score_threshold``, and sides of at least 1 px.

    Raises:
        ValueError: If there is none.
    """
    labels = [d for d in detections if d["score"] >= score_threshold and min(d["bbox"][2:]) >= MIN_SIDE]
    if not labels:
        best = max((d["score"] for d in detections), default=0.0)
        raise ValueError(
            f"No detection on the unlabeled images has a score of at least {score_threshold}; the highest is {best:.2f}. Train the "
            "detector that labels them further, or lower --self-training.score-threshold."
        )
    return labels


def write_pseudo_labels(
    path: Path, images: UnlabeledImageFolder, labels: Sequence[Detection], dataset: ImageDataset
) -> None:
    """Write ``labels`` as a COCO file with the images that have any, and the categories of ``dataset``."""
    labeled = {label["image_id"] for label in labels}
    entries = [image for image in images.coco()["images"] if image["id"] in labeled]
    write_coco_file(path, entries, coco_categories(dataset.classes, dataset.category_ids), labels)
    print(f"{len(labels):,} pseudo-labels on {len(entries):,} of {len(images):,} unlabeled images ({path})")
