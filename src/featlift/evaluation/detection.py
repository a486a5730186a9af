"""Run a detector over a data set and measure it: detections in COCO's form, AP and AR, time for each picture.

Many processes: each calls `detect` on its own ``indices``, somebody gathers the lists, `merge` puts them together,
`measure` is called once.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from featlift.data.dataset import ImageDataset, Sample
from featlift.evaluation.average_precision import (
    Detection,
    GroundTruth,
    Metrics,
    coco_metrics,
    encode_coco_rle,
    has_masks,
)
from featlift.evaluation.profiling import device_of, synchronize_cuda


@dataclass
class EvaluationResult:
    """What a detector did on a data set."""

    detections: list[Detection] = field(default_factory=list)
    """COCO results: ``image_id``, ``category_id``, ``bbox`` xywh px, ``score``, and ``segmentation`` (RLE) where there
    are masks.
    """
    seconds_per_image: dict[int, float] = field(default_factory=dict)
    """Picture id → seconds in the detector (its share of the batch; loading is not counted)."""
    has_masks: bool = False
    """Whether the detector answers with masks."""
    metrics: dict[str, Metrics] = field(default_factory=dict)
    """``"boxes"`` and, where detector and data have them, ``"masks"`` → the numbers of `average_precision`."""


def evaluate_detector(
    detector: nn.Module,
    dataset: ImageDataset,
    batch_size: int = 1,
    device: str | torch.device | None = None,
    num_workers: int = 0,
    progress: bool = True,
) -> EvaluationResult:
    """`detect` on the whole data set, then `measure`."""
    return compute_metrics(
        detect_dataset(detector, dataset, None, batch_size, device, num_workers, progress), dataset.coco()
    )


def compute_metrics(evaluation: EvaluationResult, ground_truth: GroundTruth) -> EvaluationResult:
    """Fill ``evaluation.metrics`` from its detections and return it."""
    kinds = ("boxes", "masks") if evaluation.has_masks and has_masks(ground_truth) else ("boxes",)
    evaluation.metrics = {kind: coco_metrics(ground_truth, evaluation.detections, kind) for kind in kinds}
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
    """Run ``detector`` (torchvision's contract) in evaluation mode over ``dataset[i]`` for ``i`` in ``indices`` (all,
    when None).

    ``device`` is where it runs; the detector is moved there, and by default stays where it is. ``num_workers`` processes
    load pictures. The detector is left in the mode it came in. Metrics are not computed.
    """
    place = torch.device(device) if device is not None else device_of(detector)
    chosen = Subset(dataset, range(len(dataset)) if indices is None else indices)  # type: ignore[arg-type]
    batches = DataLoader(chosen, batch_size=batch_size, num_workers=num_workers, collate_fn=list)
    training, evaluation = detector.training, EvaluationResult()
    detector.to(place).eval()
    try:
        for batch in _with_progress(batches, progress):
            _detect_batch(detector, batch, place, evaluation)
    finally:
        detector.train(training)
    return evaluation


@torch.inference_mode()
def _detect_batch(detector: nn.Module, batch: list[Sample], device: torch.device, evaluation: EvaluationResult) -> None:
    images, ids = [image.to(device) for image, _ in batch], [int(target["image_id"]) for _, target in batch]
    synchronize_cuda()
    begun = time.perf_counter()
    outputs = detector(images)
    synchronize_cuda()
    share = (time.perf_counter() - begun) / len(batch)
    evaluation.seconds_per_image |= dict.fromkeys(ids, share)
    evaluation.has_masks |= any("masks" in output for output in outputs)
    evaluation.detections += to_coco_results(outputs, ids)


def to_coco_results(predictions: Sequence[Mapping[str, Tensor]], image_ids: Sequence[int]) -> list[Detection]:
    """Torchvision's outputs as COCO results; ``mask_scores [N]``, where a detector gives them (CenterMask), as ``mask_score``.

    Each output has ``boxes [N, 4]`` xyxy px, ``labels [N]`` 1…K, ``scores [N]`` and perhaps ``masks [N, 1, H, W]`` (or
    ``[N, H, W]``) in 0…1, which are cut at ½ and encoded one by one: nothing of the size of a picture is kept.
    """
    return [
        result
        for output, image_id in zip(predictions, image_ids, strict=True)
        for result in _image_results(output, int(image_id))
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
        soft = mask.detach().reshape(mask.shape[-2:])
        result["segmentation"] = encode_coco_rle((soft > 0.5).byte().cpu().numpy())
    return results


def merge_evaluations(shards: Iterable[EvaluationResult]) -> EvaluationResult:
    """The evaluations of several processes as one, without metrics, pictures in the order of their ids.

    Distributed samplers repeat pictures to give every process the same number; a picture counts once, from the first
    shard that has it.
    """
    whole = EvaluationResult()
    for shard in shards:
        fresh = shard.seconds_per_image.keys() - whole.seconds_per_image.keys()
        whole.detections += [detection for detection in shard.detections if detection["image_id"] in fresh]
        whole.seconds_per_image |= {image_id: shard.seconds_per_image[image_id] for image_id in fresh}
        whole.has_masks |= shard.has_masks
    whole.detections.sort(key=lambda detection: detection["image_id"])
    whole.seconds_per_image = dict(sorted(whole.seconds_per_image.items()))
    return whole


def _with_progress(batches: DataLoader, progress: bool) -> Iterable[list[Sample]]:
    from rich.progress import track

    return track(batches, description="detecting", disable=not progress)
