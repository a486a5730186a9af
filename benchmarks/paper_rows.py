"""Training commands of the tables of EFPN, FDSR and FSR-GAN, and the values of a run that stand in their columns.

``benchmarks/paper_tables.py`` prints them; the tables of AFI-GAN and SRF-GAN are in ``benchmarks/paper_commands.py``.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

from paper_commands import OptionValues, PaperRow, TrainingRecipe, build_recipe

from featlift.report.records import RunRecord, read_run
from featlift.runs.options import InferenceOptions

EFPN_BACKBONES = {"ResNet-50": "resnet50", "ResNeXt-101": "resnext101_32x8d"}
TT100K_DETECTOR: OptionValues = {
    "model.detector": "faster-rcnn",
    "model.detector_options": '{"anchor_scale": 4.0, "test_size": [1400, 4000], "max_detections": 300}',
    "data.min_size": "[1400]",
    "data.max_size": "4000",
}
"""Options of the baseline that make it the base detector of EFPN's preset "paper"."""
EFPN_SCALES = "--scales 1,1.14,1.43,1.71,2"
"""Test sizes of 1400 … 2800 px (EFPN, Table VI)."""
EFPN_LEVELS = {"P3-1400": "--level p3", "P3-2800": "--level p3 --scales 2", "P3prime-1400": "--level p3x"}
"""Map on which all objects are detected (EFPN, Table V)."""
EFPN_BASELINES = {
    "FRCNN w FPN": "",
    "FPN-1400": "",
    "FPN-2800": "--scales 2",
    "FPN-1400 + P2-2800": "--double-size-level 56",
}
"""Baseline of Tables III, VI and VIII → options of its evaluation."""
FDSR_NETWORKS = {"EDSR": "edsr", "RCAN": "rcan", "D-DBPN": "d-dbpn"}
FDSR_PRIORS = {"none (D-DBPN)": "0", "Mask R-CNN R50-C4": "1"}
FDSR_DETECTORS = {
    ("Faster R-CNN", "R101-FPN"): "runs/faster-rcnn-resnet101",
    ("RetinaNet", "R50-FPN"): "retinanet_resnet50_fpn",
    ("Cascade R-CNN", "R50-FPN"): "runs/cascade-rcnn-resnet50",
}
"""Detector and backbone of FDSR's Table 2 → torchvision's detector, or the run that trains it."""
FDSR_TRAININGS = {
    "runs/faster-rcnn-resnet101": "--model.detector faster-rcnn --model.backbone resnet101",
    "runs/cascade-rcnn-resnet50": "--model.detector cascade-rcnn",
}
"""Run of a detector that torchvision does not have → options of its training."""
FDSR_VOC_NETWORKS = {
    "HR original": "0",
    "bicubic": "0",
    "D-DBPN": "0",
    "TDSR (reproduced by FDSR's authors)": "0",
    "FDSR": "1",
}
"""Method of FDSR's Table 3 → weight of the feature loss."""
TDSR_WEIGHT = "0.05"
"""Weight of the detection losses of TDSR; the papers give none."""
VOC_EVALUATION = "--data VOC2007 --split test --image-size 300x300"
"""Options of ``featlift evaluate`` for FDSR's Table 3: images of VOC2007 test, resized to 300x300."""
PIPELINES = {"origin": "original", "HR": "original", "HR original": "original", "bicubic": "bicubic"}
"""Method or column of FDSR's tables → pipeline of ``result.json``; every other is the network of the run."""
SIZE_COLUMNS = {"APS": "ap_small", "APM": "ap_medium", "APL": "ap_large", "ARS": "ar_small", "mAP": "ap", "AP": "ap"}
TT100K_KEYS = {"acc": "accuracy", "rec": "recall", "f1": "f1"}


def find_recipe(paper: str, row: PaperRow, split: str = "") -> TrainingRecipe | None:
    """Return the recipe of ``row`` of any paper's table; None if there is none (third-party methods, layers of a network).

    EFPN's tables with a ``split`` of COCO have the settings of its COCO experiment.
    """
    if paper == "efpn" and split.startswith("COCO"):
        return _efpn_coco_recipe(row)
    others = {"efpn": _efpn_recipe, "fdsr": _fdsr_recipe, "fsr-gan": _fsr_gan_recipe}
    return others[paper](row) if paper in others else build_recipe(paper, row)


def _efpn_recipe(row: PaperRow) -> TrainingRecipe | None:
    """Rows of Tables II to VI, VIII and of λ, on TT100K."""
    options = {"model.backbone": EFPN_BACKBONES.get(str(row.get("backbone", "ResNeXt-101")), "resnext101_32x8d")}
    if "extended_pyramid_level" in row:
        return _efpn_components(row, options)
    if "loss_on_ftt" in row:
        levels = "p3x,p2x" if row["loss_on_ftt"] else "p2x"
        lost: OptionValues = {
            "distillation.levels": levels,
            "distillation.foreground_weight": str(row["balanced_loss"]),
        }
        no_steps: OptionValues = {"extension.steps": "0"}
        return TrainingRecipe(
            "efpn",
            options | {"extended_level.transfer": "espcn"} | (lost if row["loss_on_extended_level"] else no_steps),
        )
    if "lambda" in row:
        return TrainingRecipe("efpn", options | {"distillation.foreground_weight": str(row["lambda"])})
    if "detection_layer" in row:
        return TrainingRecipe("efpn", options, inference=EFPN_LEVELS[str(row["detection_layer"])])
    method = str(row.get("method", row.get("model", "")))
    if method in EFPN_BASELINES:
        return TrainingRecipe("baseline", options | TT100K_DETECTOR, inference=EFPN_BASELINES[method])
    if method.startswith("EFPN-1400 w/o FTT"):
        return TrainingRecipe("efpn", options | {"extended_level.transfer": "nearest"})
    if method not in ("EFPN", "FRCNN w EFPN", "EFPN-1400"):
        return None
    return TrainingRecipe("efpn", options, inference=EFPN_SCALES if "multi" in str(row.get("test_scale")) else "")


def _efpn_coco_recipe(row: PaperRow) -> TrainingRecipe | None:
    """Rows of Tables VII and IX."""
    options = {"model.backbone": EFPN_BACKBONES.get(str(row["backbone"]), "")}
    if row["method"] == "FRCNN w FPN":
        return TrainingRecipe("baseline", options | {"model.detector": "faster-rcnn"})
    return TrainingRecipe("efpn", options, "coco") if row["method"] in ("EFPN", "FRCNN w EFPN") else None


def _efpn_components(row: PaperRow, options: OptionValues) -> TrainingRecipe:
    if not row["extended_pyramid_level"]:
        return TrainingRecipe("baseline", options | TT100K_DETECTOR)
    options = options | {"extended_level.transfer": "ftt-paper" if row["ftt"] else "espcn"}
    return TrainingRecipe(
        "efpn", options if row["cross_resolution_distillation"] else options | {"extension.steps": "0"}
    )


def _fdsr_recipe(row: PaperRow) -> TrainingRecipe | None:
    """Rows of Tables 1 to 3 and of Fig. 3."""
    if "mAP" in row:
        return _fdsr_voc_recipe(row)
    if "alpha" in row:
        prior = FDSR_PRIORS[str(row["feature prior"])]
        weights = {
            "loss_weights.pixels": str(row["alpha"]),
            "loss_weights.features": str(row["beta"]) if prior == "1" else "0",
        }
        return TrainingRecipe("fdsr", weights)
    if "detector" in row:
        detector = FDSR_DETECTORS.get((str(row["detector"]), str(row["backbone"])))
        training = FDSR_TRAININGS.get(detector or "")
        preparation = f"featlift train baseline --preset paper {training} --run {detector}" if training else ""
        return None if detector is None else TrainingRecipe("fdsr", {}, detector=detector, preparation=preparation)
    name = FDSR_NETWORKS.get(str(row["method"]))
    return TrainingRecipe("fdsr", {"network.name": name, "loss_weights.features": "0"} if name else {})


def _fdsr_voc_recipe(row: PaperRow) -> TrainingRecipe:
    """Rows of Table 3: networks trained on COCO, as in Table 1, evaluated by an SSD300 on VOC 2007."""
    method = str(row["method"])
    options = {"loss_weights.features": FDSR_VOC_NETWORKS[method]} if method != "FDSR" else {}
    if method.startswith("TDSR"):
        options |= {"loss_weights.detection": TDSR_WEIGHT}
    return TrainingRecipe("fdsr", options, detector="ssd300_vgg16", detector_options=VOC_EVALUATION)


def _fsr_gan_recipe(row: PaperRow) -> TrainingRecipe | None:
    """Rows of Table 1 and the distance in the text; Tables 2 and 3 are layers, checked in ``tests/retrieval``."""
    has_value = "variance" in row or str(row.get("quantity", "")).startswith("mean distance")
    return TrainingRecipe("fsr-gan", {}) if has_value else None


def read_records(folder: Path) -> list[RunRecord]:
    """Return the record of the run in ``folder``, and one for each further evaluation of it: with other options, or with other detectors.

    ``metadata`` has the content of ``result`` and, of these evaluations, "variant" (`InferenceOptions.variant`) or "detector"; of TT100K
    also "tt100k".
    """
    record = read_run(folder)
    result = json.loads((folder / "result.json").read_text()).get("result", {})
    records = [replace(record, metadata={"result": result})]
    for file in sorted(folder.glob("evaluation-*.json")):
        if file.stem.endswith(("-results", "-coco")):
            continue
        content = json.loads(file.read_text())
        variant = _read_variant(content, file.stem)
        if variant or "tt100k" in content:
            metadata = {"variant": variant, "tt100k": content.get("tt100k", {}), "result": result}
            records.append(replace(record, metrics=content["metrics"], metadata=metadata))
    for file in sorted(folder.glob("*/sr_detection.json")):
        content = json.loads(file.read_text())
        metadata = {"result": content, "detector": content.get("settings", {}).get("detector", "")}
        records.append(replace(record, metadata=metadata))
    return records


def _read_variant(content: Mapping[str, Any], stem: str) -> str:
    """Return the kind of inference of an evaluation; of files without options, by their name."""
    if "inference" not in content:
        return "multi-scale" if stem.endswith("-multi-scale") else ""
    stored = {**content["inference"], "scales": tuple(content["inference"]["scales"])}
    return InferenceOptions(**stored).variant


def row_value(row: PaperRow, column: str, record: RunRecord) -> float | None:
    """Return the value of a run of EFPN, FDSR or FSR-GAN in ``column`` of ``row``, in the paper's unit; None if it has none."""
    result = record.metadata.get("result", {})
    if "pipelines" in result:
        return _pipeline_value(row, column, result["pipelines"])
    if "held_out_distance" in result:
        return _distance_value(row, column, result["held_out_distance"])
    tt100k = record.metadata.get("tt100k") or {}
    size, _, kind = column.partition("_")
    if kind in TT100K_KEYS or size == "f1":
        size, kind = (kind, "f1") if size == "f1" else (size, kind)
        values = tt100k.get("sizes", {}).get({"overall": "all"}.get(size, size))
        return None if values is None else 100 * values[TT100K_KEYS[kind]]
    if column in SIZE_COLUMNS:
        metrics, key = record.metrics.get("boxes", {}), SIZE_COLUMNS[column]
        value = tt100k["coco_iou50"].get(f"{key[:2]}50{key[2:]}") if tt100k else metrics.get(key)
        return None if value is None else 100 * value
    return None


def _pipeline_value(row: PaperRow, column: str, pipelines: Mapping[str, Any]) -> float | None:
    """FDSR: the row's method, or of Table 2 the column's, is a pipeline; the network of the run has the last name before "original"."""
    own = next((name for name in pipelines if name not in ("bicubic", "original", "fine-tuned")), "")
    if "detector" in row:
        wanted = {**PIPELINES, "FDSR": own}.get(column)
        return 100 * pipelines[wanted]["metrics"]["ap"] if wanted in pipelines else None
    pipeline = pipelines.get(PIPELINES.get(str(row.get("method", "")), own), {})
    if column == "mAP":  # Table 3
        precision = pipeline.get("voc", {}).get("VOC2007", {}).get("mAP")
        return None if precision is None else 100 * precision
    quality = pipeline.get("quality", {})
    if column in ("PSNR", "FSIM"):
        return quality.get({"PSNR": "psnr_y", "FSIM": "fsim"}[column])
    key = {**SIZE_COLUMNS, "AP50": "ap50", "AP75": "ap75"}.get(column, "")
    value = pipeline.get("metrics", {}).get(key)
    return None if value is None else 100 * value


def _distance_value(row: PaperRow, column: str, curves: Mapping[str, Mapping[str, Any]]) -> float | None:
    """FSR-GAN: variance of the raw distances at a ratio, or on average; in the text the super-resolved distance at area 1/64."""
    raw = {float(ratio): pair for ratio, pair in curves["raw"].items()}
    if column == "variance":
        ratio = row["times smaller per side"]
        return (
            mean(pair[1] for r, pair in raw.items() if r > 1)
            if ratio == ""
            else (raw.get(float(ratio)) or [0, None])[1]
        )
    own = next((curve for name, curve in curves.items() if name != "raw"), {})
    by_ratio = {float(ratio): pair[0] for ratio, pair in own.items()}
    return by_ratio.get(8.0) if column == "value" else None
