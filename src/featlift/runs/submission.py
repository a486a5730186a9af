"""Submissions to COCO's evaluation server: detections on images whose annotations are not public, such as test-dev."""

import json
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from featlift.checkpoints.atomic import write_atomic
from featlift.data.coco import CocoDataset
from featlift.data.config import build_dataset, load_data_config
from featlift.evaluation.class_mapping import match_classes
from featlift.evaluation.detection import detect_on_all_processes
from featlift.integrations.named_detector import load_named_detector
from featlift.runs.detector_evaluation import build_predictor, output_folder
from featlift.runs.options import InferenceOptions
from featlift.training import distributed

MAX_SERVER_DETECTIONS = 100
"""Detections per image that the server counts."""


def submit_detections(model: str, data: str, split: str, out: str, inference: InferenceOptions) -> list[Path]:
    """Detect on ``split`` and write the zip files that COCO's server takes: one for boxes and, with masks, one for masks.

    Of several processes, each detects in its share of the images; rank 0 writes and returns the files.

    Each contains ``detections_SPLIT_NAME_results.json``, a list of COCO results with the ids of COCO.

    Args:
        model: Run folder or detector file, or a name as `load_named_detector` takes it.
        data: COCO folder; empty for the run's own data.
        split: Split: "test-dev" (``image_info_test-dev2017.json``), "val" or "train".
        out: Folder of the zip files; empty for the folder of the detector.
        inference: Batch size, device, number of detections and test-time augmentation.

    Raises:
        ValueError: If the data are no COCO folder, or the classes differ from the detector's.
    """
    named = load_named_detector(model, inference.weights, inference.delta)
    dataset = build_dataset(load_data_config(model, data), split)
    if not isinstance(dataset, CocoDataset):
        raise ValueError(f"--submit writes a file for COCO's server; '{data}' is no COCO folder.")
    label_ids = match_classes(named.classes, dataset, inference.class_map)
    predictor = build_predictor(named.detector, inference)
    options = (inference.batch_size, inference.device)
    evaluation = detect_on_all_processes(predictor, dataset, *options, label_ids=label_ids)
    if distributed.get_rank() != 0:
        return []
    folder = Path(out) if out else output_folder(model)
    split_name = dataset.report.file.stem.removeprefix("image_info_").removeprefix("instances_")
    name = re.sub(r"\W+", "-", folder.resolve().name)
    return write_submissions(folder, split_name, name, evaluation.detections)


def write_submissions(folder: Path, split_name: str, name: str, detections: Sequence[Mapping[str, Any]]) -> list[Path]:
    """Write ``detections`` on the split ``split_name`` ("test-dev2017") as zip files of boxes and of masks, if there are any.

    The server computes the area of a mask from a box if both are there, so each file has one of them.
    """
    kinds = ["bbox", "segmentation"] if any("segmentation" in d for d in detections) else ["bbox"]
    folder.mkdir(parents=True, exist_ok=True)
    return [_write_zip(folder, f"detections_{split_name}_{name}_results", kind, detections) for kind in kinds]


def _write_zip(folder: Path, stem: str, kind: str, detections: Sequence[Mapping[str, Any]]) -> Path:
    keys = ("image_id", "category_id", kind)
    results = [
        {key: d[key] for key in keys}
        | {"score": d.get("mask_score", d["score"]) if kind == "segmentation" else d["score"]}
        for d in detections
    ]

    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr(f"{stem}.json", json.dumps(results))

    return write_atomic(folder / f"{stem}-{kind}.zip", write)
