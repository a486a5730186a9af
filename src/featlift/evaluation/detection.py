"""Detector evaluation on a dataset: detections in COCO format, AP and AR, time per image."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from featlift.data.dataset import ImageDataset, Sample
from featlift.data.masks import mask_to_rle
from featlift.device import device_of, synchronize_cuda
from featlift.evaluation.coco_metrics import Detection, GroundTruth, Metrics, coco_metrics, has_masks
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
    metrics: dict[str, Metrics] = field(default_factory=dict)
    """``"boxes"`` and, if detector and dataset have masks, ``"masks"`` → the values of `coco_metrics`."""


def evaluate_detector(
    detector: nn.Module,
    dataset: ImageDataset,
    batch_size: int = 1,
    device: str | torch.device | None = None,
    num_workers: int = 0,
    progress: bool = True,
) -> EvaluationResult:
    """Run `detect_dataset` on the whole dataset, then `compute_metrics`."""
    return compute_metrics(
        detect_dataset(detector, dataset, None, batch_size, device, num_workers, progress), dataset.coco()
    )


def compute_metrics(evaluation: EvaluationResult, ground_truth: GroundTruth) -> EvaluationResult:
    """Fill ``evaluation.metrics`` from its detections and return it."""
    iou_types = ("boxes", "masks") if evaluation.has_masks and has_masks(ground_truth) else ("boxes",)
    evaluation.metrics = {
        iou_type: coco_metrics(ground_truth, evaluation.detections, iou_type) for iou_type in iou_types
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
) -> EvaluationResult:
    """Run ``detector`` (torchvision interface) in evaluation mode on ``dataset[i]`` for ``i`` in ``indices`` (None: all).

    The detector is moved to ``device`` (None: its current device); its training mode is restored. ``num_workers`` processes load
    images. Metrics are not computed.
    """
    device = torch.device(device) if device is not None else device_of(detector)
    subset = Subset(dataset, range(len(dataset)) if indices is None else indices)  # type: ignore[arg-type]
    batches = DataLoader(subset, batch_size=batch_size, num_workers=num_workers, collate_fn=list)
    training, evaluation = detector.training, EvaluationResult()
    detector.to(device).eval()
    try:
        for batch in track(batches, "detecting", progress):
            _detect_batch(detector, batch, device, evaluation)
    finally:
        detector.train(training)
    return evaluation


@torch.inference_mode()
def _detect_batch(detector: nn.Module, batch: list[Sample], device: torch.device, evaluation: EvaluationResult) -> None:
    images, ids = [image.to(device) for image, _ in batch], [int(target["image_id"]) for _, target in batch]
    synchronize_cuda()
    start = time.perf_counter()
    predictions = detector(images)
    synchronize_cuda()
    seconds = (time.perf_counter() - start) / len(batch)
    evaluation.seconds_per_image |= dict.fromkeys(ids, seconds)
    evaluation.has_masks |= any("masks" in prediction for prediction in predictions)
    evaluation.detections += to_coco_results(predictions, ids)


def to_coco_results(predictions: Sequence[Mapping[str, Tensor]], image_ids: Sequence[int]) -> list[Detection]:
    """Convert torchvision predictions to COCO results; ``mask_scores [N]`` (CenterMask) become ``mask_score``.

    Each prediction has ``boxes [N, 4]`` xyxy px, ``labels [N]`` 1…K, ``scores [N]`` and optionally ``masks [N, 1, H, W]``
    (or ``[N, H, W]``) in 0…1, which are thresholded at 0.5 and stored as RLE.
    """
    return [
        result
        for prediction, image_id in zip(predictions, image_ids, strict=True)
        for result in _image_results(prediction, int(image_id))
    ]


def _image_results(prediction: Mapping[str, Tensor], image_id: int) -> list[Detection]:
    boxes = prediction["boxes"].detach().double().cpu()
    boxes[:, 2:] -= boxes[:, :2]
    rows = zip(boxes.tolist(), prediction["labels"].tolist(), prediction["scores"].tolist(), strict=True)
    results = [
        {"image_id": image_id, "category_id": int(label), "bbox": box, "score": score} for box, label, score in rows
    ]
    for result, score in zip(results, prediction.get("mask_scores", ()), strict="mask_scores" in prediction):
        result["mask_score"] = float(score)
    for result, mask in zip(results, prediction.get("masks", ()), strict="masks" in prediction):
        probability = mask.detach().reshape(mask.shape[-2:])
        result["segmentation"] = mask_to_rle((probability > 0.5).cpu().numpy())
    return results
