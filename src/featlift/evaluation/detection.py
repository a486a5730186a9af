"""Detector evaluation on a dataset: detections in COCO format, AP and AR, time per image."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from featlift.data.batches import ignore_stop_signals
from featlift.data.dataset import ImageDataset, Sample
from featlift.data.masks import mask_to_rle
from featlift.device import device_of, synchronize_cuda
from featlift.evaluation.coco_metrics import Detection, GroundTruth, Metrics, coco_metrics, has_masks
from featlift.training import distributed
from featlift.training.progress import track


@dataclass
class EvaluationResult:
    """Detections, run times and metrics of a detector on a dataset."""

    detections: list[Detection] = field(default_factory=list)
    """COCO results: ``image_id``, ``category_id``, ``bbox`` xywh px, ``score``, and ``segmentation`` (RLE) if there are
    masks.
    """
    seconds_per_image: dict[int, float] = field(default_factory=dict)
    """Image id → seconds in the detector (batch time divided by batch size; loading excluded)."""
    has_masks: bool = False
    """Whether the detector predicts masks."""
    max_detections: int = 100
    """Maximum number of detections per image of the detector, with which AP and AR are computed."""
    num_limited_images: int = 0
    """Number of images with ``max_detections`` detections: further objects may be missing."""
    metrics: dict[str, Metrics] = field(default_factory=dict)
    """``"boxes"`` and, if detector and dataset have masks, ``"masks"`` → the values of `coco_metrics`."""


def evaluate_detector(
    detector: nn.Module,
    dataset: ImageDataset,
    batch_size: int = 1,
    device: str | torch.device | None = None,
    num_workers: int = 0,
    progress: bool = True,
    label_ids: Mapping[int, int | None] | None = None,
) -> EvaluationResult:
    """Run `detect_on_all_processes`, then `compute_metrics`; all processes have to call it, and each returns the whole result."""
    evaluation = detect_on_all_processes(detector, dataset, batch_size, device, num_workers, progress, label_ids)
    return compute_metrics(evaluation, dataset.coco())


def detect_on_all_processes(
    detector: nn.Module,
    dataset: ImageDataset,
    batch_size: int = 1,
    device: str | torch.device | None = None,
    num_workers: int = 0,
    progress: bool = True,
    label_ids: Mapping[int, int | None] | None = None,
) -> EvaluationResult:
    """Run `detect_dataset` on the whole dataset.

    Of several processes, each detects in its share of the batches, with the buffers of rank 0 (statistics of batch norm differ), and
    returns the whole result, with the images in the order of the dataset; all of them have to call this function.
    """
    rank, world_size = distributed.get_rank(), distributed.get_world_size()
    indices = [i for i in range(len(dataset)) if i // batch_size % world_size == rank]
    if world_size > 1:
        distributed.broadcast_tensors(detector.buffers())
    show = progress and rank == 0
    evaluation = detect_dataset(detector, dataset, indices, batch_size, device, num_workers, show, label_ids)
    if world_size == 1:
        return evaluation
    parts = distributed.all_gather_objects(evaluation)
    return _merge(parts, {image["id"]: i for i, image in enumerate(dataset.coco()["images"])})


def _merge(parts: Sequence[EvaluationResult], order: Mapping[int, int]) -> EvaluationResult:
    """Join the results of several processes, with the images in ``order`` (image id → position)."""
    seconds = {image_id: s for part in parts for image_id, s in part.seconds_per_image.items()}
    return EvaluationResult(
        sorted((d for part in parts for d in part.detections), key=lambda d: order[d["image_id"]]),
        {image_id: seconds[image_id] for image_id in sorted(seconds, key=lambda image_id: order[image_id])},
        any(part.has_masks for part in parts),
        parts[0].max_detections,
        sum(part.num_limited_images for part in parts),
    )


def compute_metrics(evaluation: EvaluationResult, ground_truth: GroundTruth) -> EvaluationResult:
    """Fill ``evaluation.metrics`` from its detections and return it."""
    iou_types = ("boxes", "masks") if evaluation.has_masks and has_masks(ground_truth) else ("boxes",)
    evaluation.metrics = {
        iou_type: coco_metrics(ground_truth, evaluation.detections, iou_type, evaluation.max_detections)
        for iou_type in iou_types
    }
    return evaluation


def detect_dataset(
    detector: nn.Module,
    dataset: ImageDataset,
    indices: Sequence[int] | None = None,
    batch_size: int = 1,
    device: str | torch.device | None = None,
    num_workers: int = 0,
    progress: bool = True,
    label_ids: Mapping[int, int | None] | None = None,
) -> EvaluationResult:
    """Run ``detector`` (torchvision interface) in evaluation mode on ``dataset[i]`` for ``i`` in ``indices`` (None: all).

    The detector is moved to ``device`` (None: its current device); its training mode is restored. ``num_workers`` processes load
    images. Detections have the dataset's own image and category ids; ``label_ids`` maps the detector's labels to them (see
    `featlift.evaluation.class_mapping.match_classes`), None takes its labels as those of the dataset. Metrics are not computed.
    """
    label_ids = dict(enumerate(dataset.category_ids, start=1)) if label_ids is None else label_ids
    device = torch.device(device) if device is not None else device_of(detector)
    subset = Subset(dataset, range(len(dataset)) if indices is None else indices)  # type: ignore[arg-type]
    batches = DataLoader(
        subset, batch_size=batch_size, num_workers=num_workers, collate_fn=list, worker_init_fn=ignore_stop_signals
    )
    training, evaluation = detector.training, EvaluationResult(max_detections=detection_limit(detector))
    detector.to(device).eval()
    try:
        for batch in track(batches, "detecting", progress):
            _detect_batch(detector, batch, device, evaluation, label_ids)
    finally:
        detector.train(training)
    return evaluation


def detection_limit(detector: nn.Module) -> int:
    """Maximum number of detections per image: ``max_detections`` or torchvision's ``detections_per_img``; COCO's 100 without."""
    if hasattr(detector, "max_detections"):
        return int(detector.max_detections)  # type: ignore[arg-type]
    limits = [int(getattr(module, "detections_per_img", 0)) for module in detector.modules()]
    return max(limits) if any(limits) else 100


@torch.inference_mode()
def _detect_batch(
    detector: nn.Module,
    batch: list[Sample],
    device: torch.device,
    evaluation: EvaluationResult,
    label_ids: Mapping[int, int | None],
) -> None:
    images, ids = [image.to(device) for image, _ in batch], [int(target["image_id"]) for _, target in batch]
    synchronize_cuda()
    start = time.perf_counter()
    predictions = detector(images)
    synchronize_cuda()
    seconds = (time.perf_counter() - start) / len(batch)
    evaluation.seconds_per_image |= dict.fromkeys(ids, seconds)
    evaluation.has_masks |= any("masks" in prediction for prediction in predictions)
    evaluation.num_limited_images += sum(len(p["boxes"]) >= evaluation.max_detections for p in predictions)
    evaluation.detections += to_coco_results(predictions, ids, label_ids)


def to_coco_results(
    predictions: Sequence[Mapping[str, Tensor]], image_ids: Sequence[int], label_ids: Mapping[int, int | None]
) -> list[Detection]:
    """Convert torchvision predictions to COCO results; ``mask_scores [N]`` (CenterMask) become ``mask_score``.

    Each prediction has ``boxes [N, 4]`` xyxy px, ``labels [N]`` 1…K, ``scores [N]`` and optionally ``masks [N, 1, H, W]``
    (or ``[N, H, W]``) in 0…1, which are thresholded at 0.5 and stored as RLE. ``label_ids`` maps labels to category ids;
    detections of labels mapped to None are left out.

    Raises:
        ValueError: If a label is not in ``label_ids``.
    """
    return [
        result
        for prediction, image_id in zip(predictions, image_ids, strict=True)
        for result in _image_results(prediction, int(image_id), label_ids)
    ]


def _image_results(
    prediction: Mapping[str, Tensor], image_id: int, label_ids: Mapping[int, int | None]
) -> list[Detection]:
    boxes = prediction["boxes"].detach().double().cpu()
    boxes[:, 2:] -= boxes[:, :2]
    categories = [_category_id(label, label_ids) for label in prediction["labels"].tolist()]
    rows = zip(boxes.tolist(), categories, prediction["scores"].tolist(), strict=True)
    results: list[Detection] = [
        {"image_id": image_id, "category_id": category, "bbox": box, "score": score} for box, category, score in rows
    ]
    for result, score in zip(results, prediction.get("mask_scores", ()), strict="mask_scores" in prediction):
        result["mask_score"] = float(score)
    for result, mask in zip(results, prediction.get("masks", ()), strict="masks" in prediction):
        probability = mask.detach().reshape(mask.shape[-2:])
        result["segmentation"] = mask_to_rle((probability > 0.5).cpu().numpy())
    return [result for result in results if result["category_id"] is not None]


def _category_id(label: int, label_ids: Mapping[int, int | None]) -> int | None:
    if label not in label_ids:
        raise ValueError(
            f"The detector answers with label {label}; the labels of the dataset are {min(label_ids, default=0)} to "
            f"{max(label_ids, default=0)}. Map the detector's classes by name: featlift.evaluation.class_mapping.match_classes."
        )
    return label_ids[label]
