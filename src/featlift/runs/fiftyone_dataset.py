"""A comparison of two runs as a dataset for FiftyOne: every object and detection says whether it is gained or lost."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torchvision.transforms.functional import to_pil_image

from featlift.data.dataset import ImageDataset
from featlift.data.image_checks import HasImageFiles
from featlift.evaluation.coco_metrics import Detection
from featlift.evaluation.fiftyone_files import write_fiftyone_labels, write_fiftyone_manifest
from featlift.evaluation.object_changes import ObjectChanges

UNMATCHED, BELOW_THRESHOLD = "unmatched", "below threshold"
"""Outcomes of detections without an object: at or above the score threshold of their run (false positives and crowd regions), and below."""


def write_fiftyone_dataset(
    folder: Path,
    dataset: ImageDataset,
    changes: ObjectChanges,
    detections: tuple[Sequence[Detection], Sequence[Detection]],
) -> Path:
    """Write ``data.json`` and the labels ``ground_truth.json``, ``first.json`` and ``second.json`` into ``folder``; return it.

    Each label has the attribute ``outcome``: of an object one of `featlift.evaluation.object_changes.OUTCOMES`, of a detection that of
    its object, `UNMATCHED` or `BELOW_THRESHOLD`. Images that are no files are written as PNG.

    Args:
        folder: Output folder; these files in it are replaced.
        dataset: Images and objects.
        changes: Comparison of ``detections`` by `featlift.evaluation.object_changes.compare_objects`.
        detections: COCO results of the first and the second detector.
    """
    folder.mkdir(parents=True, exist_ok=True)
    truth = dataset.coco()
    write_fiftyone_manifest(
        folder, {image["id"]: _find_file(folder, dataset, i) for i, image in enumerate(truth["images"])}
    )
    write_fiftyone_labels(folder / "ground_truth.json", truth, _label_objects(truth, changes))
    for position, name in enumerate(("first", "second")):
        write_fiftyone_labels(
            folder / f"{name}.json", truth, _label_detections(detections[position], changes, position)
        )
    return folder


def _find_file(folder: Path, dataset: ImageDataset, index: int) -> Path:
    """File of image ``index``; if it has none, its pixels are written into ``folder``."""
    path = dataset.image_path(index) if isinstance(dataset, HasImageFiles) else None
    if isinstance(path, Path):
        return path.resolve()
    written = folder / "data" / f"{index:06d}.png"
    written.parent.mkdir(exist_ok=True)
    to_pil_image(dataset[index][0]).save(written)
    return written.relative_to(folder)


def _label_objects(
    truth: Mapping[str, Any], changes: ObjectChanges
) -> Iterator[tuple[Mapping[str, Any], dict[str, Any]]]:
    outcomes = {item.annotation_id: item for item in changes.outcomes}
    for annotation in truth["annotations"]:
        item = outcomes.get(annotation["id"])
        attributes: dict[str, Any] = {"iscrowd": int(annotation.get("iscrowd", 0))}
        if item:
            attributes |= {"outcome": item.outcome, "size": item.area_bin}
            attributes |= {"iou_first": item.ious[0], "iou_second": item.ious[1]}
        yield annotation, attributes


def _label_detections(
    detections: Sequence[Detection], changes: ObjectChanges, position: int
) -> Iterator[tuple[Mapping[str, Any], dict[str, Any]]]:
    matched = {
        id(detection): (item.outcome, item.ious[position])
        for item in changes.outcomes
        if (detection := (item.first_detection, item.second_detection)[position])
    }
    for detection in detections:
        if id(detection) in matched:
            outcome, iou = matched[id(detection)]
            yield detection, {"outcome": outcome, "iou": iou}
        else:
            is_above = detection["score"] >= changes.score_thresholds[position]
            yield detection, {"outcome": UNMATCHED if is_above else BELOW_THRESHOLD}
