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

from featlift.data.dataset import Example, Pictures
from featlift.evaluation.average_precision import Detection, GroundTruth, Metrics, average_precision, encode, has_masks
from featlift.evaluation.profiling import device_of, synchronise


@dataclass
class Evaluation:
    """What a detector did on a data set."""

    detections: list[Detection] = field(default_factory=list)
    """COCO results: ``image_id``, ``category_id``, ``bbox`` xywh px, ``score``, and ``segmentation`` (RLE) where there
    are masks.
    """
    seconds: dict[int, float] = field(default_factory=dict)
    """Picture id → seconds in the detector (its share of the batch; loading is not counted)."""
    masks: bool = False
    """Whether the detector answers with masks."""
    metrics: dict[str, Metrics] = field(default_factory=dict)
    """``"boxes"`` and, where detector and data have them, ``"masks"`` → the numbers of `average_precision`."""


def evaluate(
    detector: nn.Module,
    dataset: Pictures,
    batch_size: int = 1,
    device: str | torch.device | None = None,
    workers: int = 0,
    progress: bool = True,
) -> Evaluation:
    """`detect` on the whole data set, then `measure`."""
    return measure(detect(detector, dataset, None, batch_size, device, workers, progress), dataset.coco())


def measure(evaluation: Evaluation, truth: GroundTruth) -> Evaluation:
    """Fill ``evaluation.metrics`` from its detections and return it."""
    kinds = ("boxes", "masks") if evaluation.masks and has_masks(truth) else ("boxes",)
    evaluation.metrics = {kind: average_precision(truth, evaluation.detections, kind) for kind in kinds}
    return evaluation


def detect(
    detector: nn.Module,
    dataset: Pictures,
    indices: Sequence[int] | None = None,
    batch_size: int = 1,
    device: str | torch.device | None = None,
    workers: int = 0,
    progress: bool = True,
) -> Evaluation:
    """Run ``detector`` (torchvision's contract) in evaluation mode over ``dataset[i]`` for ``i`` in ``indices`` (all,
    when None).

    ``device`` is where it runs; the detector is moved there, and by default stays where it is. ``workers`` processes
    load pictures. The detector is left in the mode it came in. Metrics are not computed.
    """
    place = torch.device(device) if device is not None else device_of(detector)
    chosen = Subset(dataset, range(len(dataset)) if indices is None else indices)  # type: ignore[arg-type]
    batches = DataLoader(chosen, batch_size=batch_size, num_workers=workers, collate_fn=list)
    training, evaluation = detector.training, Evaluation()
    detector.to(place).eval()
    try:
        for batch in _watched(batches, progress):
            _detect_batch(detector, batch, place, evaluation)
    finally:
        detector.train(training)
    return evaluation


@torch.inference_mode()
def _detect_batch(detector: nn.Module, batch: list[Example], place: torch.device, evaluation: Evaluation) -> None:
    images, ids = [image.to(place) for image, _ in batch], [int(target["image_id"]) for _, target in batch]
    synchronise()
    begun = time.perf_counter()
    outputs = detector(images)
    synchronise()
    share = (time.perf_counter() - begun) / len(batch)
    evaluation.seconds |= dict.fromkeys(ids, share)
    evaluation.masks |= any("masks" in output for output in outputs)
    evaluation.detections += as_results(outputs, ids)


def as_results(outputs: Sequence[Mapping[str, Tensor]], image_ids: Sequence[int]) -> list[Detection]:
    """Torchvision's outputs as COCO results; ``mask_scores [N]``, where a detector gives them (CenterMask), as ``mask_score``.

    Each output has ``boxes [N, 4]`` xyxy px, ``labels [N]`` 1…K, ``scores [N]`` and perhaps ``masks [N, 1, H, W]`` (or
    ``[N, H, W]``) in 0…1, which are cut at ½ and encoded one by one: nothing of the size of a picture is kept.
    """
    return [
        result
        for output, image_id in zip(outputs, image_ids, strict=True)
        for result in _picture_results(output, int(image_id))
    ]


def _picture_results(output: Mapping[str, Tensor], image_id: int) -> list[Detection]:
    boxes = output["boxes"].detach().double().cpu()
    boxes[:, 2:] -= boxes[:, :2]
    rows = zip(boxes.tolist(), output["labels"].tolist(), output["scores"].tolist(), strict=True)
    results = [
        {"image_id": image_id, "category_id": int(label), "bbox": box, "score": score} for box, label, score in rows
    ]
    for result, score in zip(results, output.get("mask_scores", ()), strict="mask_scores" in output):
        result["mask_score"] = float(score)
    for result, mask in zip(results, output.get("masks", ()), strict="masks" in output):
        soft = mask.detach().reshape(mask.shape[-2:])
        result["segmentation"] = encode((soft > 0.5).byte().cpu().numpy())
    return results


def merge(shards: Iterable[Evaluation]) -> Evaluation:
    """The evaluations of several processes as one, without metrics, pictures in the order of their ids.

    Distributed samplers repeat pictures to give every process the same number; a picture counts once, from the first
    shard that has it.
    """
    whole = Evaluation()
    for shard in shards:
        fresh = shard.seconds.keys() - whole.seconds.keys()
        whole.detections += [detection for detection in shard.detections if detection["image_id"] in fresh]
        whole.seconds |= {image_id: shard.seconds[image_id] for image_id in fresh}
        whole.masks |= shard.masks
    whole.detections.sort(key=lambda detection: detection["image_id"])
    whole.seconds = dict(sorted(whole.seconds.items()))
    return whole


def _watched(batches: DataLoader, progress: bool) -> Iterable[list[Example]]:
    from rich.progress import track

    return track(batches, description="detecting", disable=not progress)
