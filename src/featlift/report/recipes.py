"""The command that makes a row of a paper's table, read off the row's cells. `featlift table` prints it and looks for its runs."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from featlift.report.printed import PaperRow, PaperTable

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
"""What stands in the pyramid of a detector that is trained once, without stages."""
STAGED_INTERPOLATORS = {
    "AFI": "afi",
    "AFI (ours)": "afi-rb",  # AFI-GAN's Table 6 prints 54 M, which is the residual-block generator
    "SRF": "srf",
    "SRF generator (ours)": "srf",
}
ABLATION_OPTIONS: dict[str, OptionValues] = {
    "A2": {"reuse": "G"},
    "A3": {"until": "extractor"},
    "A4": {"reuse": "M", "freeze_interpolator": "true"},
    "A5": {"reuse": "M", "freeze_interpolator": "false"},
    "A6": {"reuse": "none"},
    "different feature levels": {"reuse": "M", "semantics": "different"},
    "same feature levels (ours)": {"reuse": "M", "semantics": "same"},
    "nearest": {"reuse": "M", "downscale.image_mode": "nearest"},
    "bicubic": {"reuse": "M", "downscale.image_mode": "bicubic"},
    "bilinear (ours)": {"reuse": "M", "downscale.image_mode": "bilinear"},
    "B1": {"reuse": "M", "model.pyramid": "fpn-top-down"},
    "B2 (ours)": {"reuse": "M", "model.pyramid": "fpn"},
}
"""AFI-GAN's Tables 4, 7, 8 and 9, SRF-GAN's 4, 6 and 7: what differs from the paper's own settings."""
SCHEDULE_3X = {"steps": "270000", "optimizer.milestones": "[0.777778, 0.925926]"}
"""The 3x schedule (37 epochs): a tenth of the rate after 210k and 250k steps."""


@dataclass(frozen=True)
class TrainingRecipe:
    """``featlift train PAPER --preset PRESET --OPTION VALUE …``; ``schedule`` are options that do not tell rows apart."""

    paper: str
    options: OptionValues
    preset: str = "paper"
    schedule: OptionValues = field(default_factory=dict)

    @property
    def argv(self) -> list[str]:
        """What follows ``featlift train PAPER``."""
        options = {"preset": self.preset, **self.options, **self.schedule}
        return [word for name, value in options.items() for word in (f"--{name}", value)]

    @property
    def command(self) -> str:
        """The whole command, as one types it."""
        return " ".join(["featlift train", self.paper, *(f"'{w}'" if " " in w else w for w in self.argv)])


def build_recipe(table: PaperTable, row: PaperRow) -> TrainingRecipe | None:
    """How ``row`` of ``table`` is made here; None if it is not: other people's detectors, self-training on unlabeled pictures."""
    if not _has_recipe(table, row):
        return None
    variant = str(row.get("name", row.get("variant", ""))).removeprefix("degradation: ")
    if variant in ABLATION_OPTIONS:
        return TrainingRecipe(table.paper, ABLATION_OPTIONS[variant])
    network, word = _model_options(row), str(row.get("interpolation") or variant)
    if network is None or word not in BASELINE_INTERPOLATORS | STAGED_INTERPOLATORS:
        return None
    preset, long = _select_preset(row), row.get("epochs") == 37
    if word in BASELINE_INTERPOLATORS:
        schedule = {f"train.{name}": value for name, value in SCHEDULE_3X.items()} if long else {}
        return TrainingRecipe(
            "baseline", network | {"model.interpolator": BASELINE_INTERPOLATORS[word]}, preset, schedule
        )
    schedule = {f"target.{name}": value for name, value in SCHEDULE_3X.items()} if long else {}
    options = network | {"model.interpolator": STAGED_INTERPOLATORS[word]} | _reuse_options(row)
    return TrainingRecipe(table.paper, options, preset, schedule)


def identifying_options(recipes: Mapping[int, TrainingRecipe]) -> tuple[str, ...]:
    """The options that tell the rows of a table apart: where a run differs in others, it is still a run of its row."""
    return tuple(dict.fromkeys(name for made in recipes.values() for name in made.options))


def _has_recipe(table: PaperTable, row: PaperRow) -> bool:
    others = "reimplemented" in row and not row["reimplemented"] and not row["ours"]
    return table.paper in ("afi-gan", "srf-gan") and not others and not row.get("self_training_unlabeled")


def _model_options(row: PaperRow) -> OptionValues | None:
    """Detector, backbone and pyramid; None if one of them is not here."""
    backbone, pyramid = str(row.get("backbone", "")), str(row.get("multiscale", ""))
    if backbone.endswith("FPN"):
        backbone, _, pyramid = backbone.rpartition("-")
    cells = {
        "model.detector": (str(row.get("target_detector", row.get("detector", ""))), DETECTOR_LABELS),
        "model.backbone": (backbone, BACKBONE_LABELS),
        "model.pyramid": (pyramid, PYRAMID_LABELS | ({"BiFPN": "bifpn-7"} if backbone.startswith("Swin") else {})),
    }
    if any(cell and cell not in known for cell, known in cells.values()):
        return None
    return {option: known[cell] for option, (cell, known) in cells.items() if cell}


def _select_preset(row: PaperRow) -> str:
    """The family's schedule: see `featlift.papers.baseline.Settings`."""
    if str(row.get("backbone", "")).startswith("Swin"):
        return "transformer"
    return "dense" if row.get("target_detector", row.get("detector")) in DENSE_DETECTORS else "paper"


def _reuse_options(row: PaperRow) -> OptionValues:
    """What the target takes over, and under which head the extractor was trained (Table 3)."""
    head = str(row.get("extractor_head", ""))
    return {"reuse": str(row.get("reuse") or "M")} | ({"extractor_detector": DETECTOR_LABELS[head]} if head else {})
