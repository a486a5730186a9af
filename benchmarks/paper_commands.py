"""Training commands that reproduce rows of the papers' tables, derived from the cells of the row.

``benchmarks/paper_tables.py`` prints them and finds their runs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PaperRow = Mapping[str, Any]
"""Column → printed value, "" for an empty cell."""

OptionValues = dict[str, str]

DETECTOR_LABELS = {
    "Mask R-CNN": "mask-rcnn",
    "Faster R-CNN": "faster-rcnn",
    "Cascade R-CNN": "cascade-rcnn",
    "Cascade R-CNN (mask)": "cascade-mask-rcnn",
    "RetinaNet": "retinanet",
    "FCOS": "fcos",
    "CenterMask": "centermask",
}
DENSE_DETECTORS = ("RetinaNet", "FCOS", "CenterMask")
BACKBONE_LABELS = {
    "R-50": "resnet50",
    "S-101": "resnest101e",
    "Swin-T": "swin_tiny_patch4_window7_224",
    "Swin-L": "swin_large_patch4_window12_384",
}
PYRAMID_LABELS = {"FPN": "fpn", "PAFPN": "pafpn", "BiFPN": "bifpn"}
BASELINE_INTERPOLATORS = {
    "NN": "nearest",
    "BL": "bilinear",
    "BC": "bicubic",
    "NN-5conv": "nearest-5conv",
    "BL-5conv": "bilinear-5conv",
    "BC-5conv": "bicubic-5conv",
    "Deconv": "deconv",
    "Nearest Neighbor": "nearest",
    "Bilinear": "bilinear",
    "Bicubic": "bicubic",
    "A1": "nearest",
}
"""Interpolators of a detector that is trained once, without stages."""
STAGED_INTERPOLATORS = {
    "AFI": "afi",
    "AFI (ours)": "afi-rb",  # AFI-GAN's Table 6 prints 54 M, which is the residual-block generator
    "SRF": "srf",
    "SRF generator (ours)": "srf",
}
ABLATION_OPTIONS: dict[str, OptionValues] = {
    "A2": {"reuse": "G"},
    "A3": {"stop_after": "extractor"},
    "A4": {"reuse": "M", "freeze_interpolator": "true"},
    "A5": {"reuse": "M", "freeze_interpolator": "false"},
    "A6": {"reuse": "none"},
    "different feature levels": {"reuse": "M", "level_matching": "different"},
    "same feature levels (ours)": {"reuse": "M", "level_matching": "same"},
    "nearest": {"reuse": "M", "downscale.image_mode": "nearest"},
    "bicubic": {"reuse": "M", "downscale.image_mode": "bicubic"},
    "bilinear (ours)": {"reuse": "M", "downscale.image_mode": "bilinear"},
    "B1": {"reuse": "M", "model.pyramid": "fpn-no-lateral"},
    "B2 (ours)": {"reuse": "M", "model.pyramid": "fpn"},
}
"""Rows of AFI-GAN's Tables 4, 7, 8 and 9 and SRF-GAN's Tables 4, 6 and 7 → options that differ from the paper's settings."""
SCHEDULE_3X = {"steps": "270000", "optimizer.milestones": "[0.777778, 0.925926]"}
"""The 3x schedule (37 epochs): the learning rate drops by 10 after 210k and 250k steps."""


MULTI_SCALE = "--scales 0.5,0.625,0.75,0.875,1,1.125,1.25,1.375,1.5 --flip true"
"""Options of ``featlift evaluate`` of the multi-scale rows: Detectron2's short sides of 400 … 1200 px, and flipped images."""

SELF_TRAINING: OptionValues = {
    "self_training.unlabeled_images": "COCO/unlabeled2017",
    "self_training.labels_from": "RUN",
}
"""Options of the rows that were trained on COCO's unlabeled images, too; RUN is a run of the same row without them."""


@dataclass(frozen=True)
class TrainingRecipe:
    """``featlift train PAPER --preset PRESET --OPTION VALUE …``; ``schedule`` holds the options that do not distinguish rows.

    The result of a row with ``inference`` options, or with another ``detector`` (FDSR), is that of :meth:`evaluation`, not the one at the
    end of the training. ``preparation`` trains or imports that detector.
    """

    paper: str
    options: OptionValues
    preset: str = "paper"
    schedule: OptionValues = field(default_factory=dict)
    inference: str = ""
    detector: str = ""
    detector_options: str = ""
    preparation: str = ""

    def evaluation(self, run: str) -> str:
        """Shell command that evaluates the trained ``run`` as the row says; "" if the training already has."""
        if self.detector:
            words = ["featlift evaluate", self.detector, "--super-resolvers.fdsr", run, self.detector_options]
            return " ".join(filter(None, [*words, "--out", f"{run}/{Path(self.detector).name}"]))
        return f"featlift evaluate {run} {self.inference}" if self.inference else ""

    @property
    def argv(self) -> list[str]:
        """Arguments after ``featlift train PAPER``."""
        options = {"preset": self.preset, **self.options, **self.schedule}
        return [argument for name, value in options.items() for argument in (f"--{name.replace('_', '-')}", value)]

    @property
    def command(self) -> str:
        """Shell command."""
        return " ".join(["featlift train", self.paper, *(f"'{arg}'" if " " in arg else arg for arg in self.argv)])


def build_recipe(paper: str, row: PaperRow) -> TrainingRecipe | None:
    """Return the recipe of ``row`` of a table of ``paper``; None for third-party detectors."""
    if not _has_recipe(paper, row):
        return None
    variant = str(row.get("name", row.get("variant", ""))).removeprefix("degradation: ")
    if variant in ABLATION_OPTIONS:
        return TrainingRecipe(paper, ABLATION_OPTIONS[variant])
    model_options, label = _model_options(row), str(row.get("interpolation") or variant)
    if model_options is None or label not in BASELINE_INTERPOLATORS | STAGED_INTERPOLATORS:
        return None
    preset, is_3x = _select_preset(row), row.get("epochs") == 37
    if row.get("self_training_unlabeled"):
        return _self_training_recipe(paper, row, model_options, label)
    if label in BASELINE_INTERPOLATORS:
        schedule = {f"train.{name}": value for name, value in SCHEDULE_3X.items()} if is_3x else {}
        options = model_options | {"model.interpolator": BASELINE_INTERPOLATORS[label]}
        return TrainingRecipe("baseline", options, preset, schedule, MULTI_SCALE if row.get("tta") else "")
    schedule = {f"target.{name}": value for name, value in SCHEDULE_3X.items()} if is_3x else {}
    options = model_options | {"model.interpolator": STAGED_INTERPOLATORS[label]} | _reuse_options(row)
    return TrainingRecipe(paper, options, preset, schedule, MULTI_SCALE if row.get("tta") else "")


def _self_training_recipe(paper: str, row: PaperRow, model_options: OptionValues, label: str) -> TrainingRecipe:
    """Return the recipe of a row that was trained on unlabeled images, too; of nearest interpolation only the last stage remains."""
    interpolator = (BASELINE_INTERPOLATORS | STAGED_INTERPOLATORS)[label]
    reuse = {"reuse": "none"} if label in BASELINE_INTERPOLATORS else _reuse_options(row)
    options = model_options | {"model.interpolator": interpolator} | reuse | SELF_TRAINING
    return TrainingRecipe(paper, options, _select_preset(row), {}, MULTI_SCALE if row.get("tta") else "")


def identifying_options(recipes: Mapping[int, TrainingRecipe]) -> tuple[str, ...]:
    """Return the options that distinguish the rows of a table; a run may differ from its row in all other options."""
    return tuple(dict.fromkeys(name for recipe in recipes.values() for name in recipe.options))


def _has_recipe(paper: str, row: PaperRow) -> bool:
    is_third_party = "reimplemented" in row and not row["reimplemented"] and not row["ours"]
    return paper in ("afi-gan", "srf-gan") and not is_third_party


def _model_options(row: PaperRow) -> OptionValues | None:
    """Return the options of detector, backbone and pyramid; None if FeatLift lacks any of them."""
    backbone, pyramid = str(row.get("backbone", "")), str(row.get("multiscale", ""))
    if backbone.endswith("FPN"):
        backbone, _, pyramid = backbone.rpartition("-")
    cells = {
        "model.detector": (str(row.get("target_detector", row.get("detector", ""))), DETECTOR_LABELS),
        "model.backbone": (backbone, BACKBONE_LABELS),
        "model.pyramid": (pyramid, PYRAMID_LABELS | ({"BiFPN": "bifpn-7"} if backbone.startswith("Swin") else {})),
    }
    if any(cell and cell not in labels for cell, labels in cells.values()):
        return None
    return {option: labels[cell] for option, (cell, labels) in cells.items() if cell}


def _select_preset(row: PaperRow) -> str:
    """Return the preset of the detector's or backbone's family, see `featlift.baseline.Settings`."""
    if str(row.get("backbone", "")).startswith("Swin"):
        return "transformer"
    if str(row.get("backbone", "")).startswith("S-101"):
        return "resnest"
    return "dense" if row.get("target_detector", row.get("detector")) in DENSE_DETECTORS else "paper"


def _reuse_options(row: PaperRow) -> OptionValues:
    """Return the modules that the target reuses, and the head under which the extractor was trained (Table 3)."""
    head = str(row.get("extractor_head", ""))
    options: OptionValues = {"reuse": str(row.get("reuse") or "M")}
    if not head:
        return options
    return options | {"extractor_detector": DETECTOR_LABELS[head]} | _extractor_rates(row, head)


def _extractor_rates(row: PaperRow, head: str) -> OptionValues:
    """Return the learning rates of F and M if ``head`` is of another family than the preset: theirs is that of their head."""
    if (head in DENSE_DETECTORS) == (_select_preset(row) == "dense"):
        return {}
    rate = "0.01" if head in DENSE_DETECTORS else "0.02"
    return {"teacher.optimizer.lr": rate, "extractor.optimizer.lr": rate}
