"""Which options of `featlift train PAPER` its short help lists, and under which heading; a literal table per paper."""

HEADINGS = ("data", "model", "losses", "optimizer and schedule", "stages", "run")
"""Headings of the help of a training, in this order."""

MAIN_STAGES: dict[str, str] = {
    "baseline": "train",
    "afi-gan": "target",
    "srf-gan": "target",
    "efpn": "detector",
    "light": "target",
    "fdsr": "train",
    "fsr-gan": "",
}
"""Paper → the stage whose optimizer the short help lists and ``--lr`` refers to; "" if the paper has a single optimizer."""

_DATA = ("data.root", "data.batch_size", "data.min_size", "data.num_workers")
_DETECTOR = ("model.detector", "model.backbone", "model.backbone_weights")
_RUN = ("preset", "config", "run", "device", "precision", "seed")

_THREE_STAGES = (
    *_DATA,
    *_DETECTOR,
    "model.interpolator",
    "target.optimizer.lr",
    "teacher.steps",
    "interpolator.steps",
    "extractor.steps",
    "target.steps",
    "teacher_from",
    "interpolator_from",
    "stop_after",
    *_RUN,
)

SHORT_HELP: dict[str, tuple[str, ...]] = {
    "baseline": (
        *_DATA,
        *_DETECTOR,
        "model.pyramid",
        "model.interpolator",
        "train.steps",
        "train.optimizer.lr",
        "init_from",
        *_RUN,
    ),
    "afi-gan": _THREE_STAGES,
    "srf-gan": _THREE_STAGES,
    "efpn": (
        *_DATA,
        *_DETECTOR,
        "class_balance.min_per_class",
        "extended_level.transfer",
        "extended_level.small_roi_size",
        "detector.optimizer.lr",
        "detector.steps",
        "extension.steps",
        "head.steps",
        "detector_from",
        *_RUN,
    ),
    "light": (
        *_DATA,
        *_DETECTOR,
        "model.interpolator",
        "teacher_interpolator",
        "target.optimizer.lr",
        "teacher.steps",
        "interpolator.steps",
        "target.steps",
        "teachers_from",
        "interpolator_from",
        "stop_after",
        *_RUN,
    ),
    "fdsr": (
        "data.root",
        "data.crop_size",
        "data.batch_size",
        "data.num_images",
        "data.num_workers",
        "network.name",
        "network.scale",
        "network.weights",
        "feature_extractor.network",
        "feature_extractor.layers",
        "loss_weights.pixels",
        "loss_weights.features",
        "evaluation.detector",
        "train.steps",
        "train.optimizer.lr",
        *_RUN,
    ),
    "fsr-gan": (
        "collection.name",
        "collection.image_folder",
        "collection.train_images",
        "vectors",
        "embedder.encoder",
        "embedder.weights",
        "generator",
        "hidden_dim",
        "adversarial.kind",
        "ratios",
        "steps",
        "batch_size",
        "optimizer.lr",
        *_RUN,
    ),
}
"""Paper → the options of its short help; ``--help-all`` lists all."""

_GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("run", (*_RUN, "save_every", "log_every", "evaluate_every", "tracker")),
    (
        "data",
        (
            "data",
            "evaluation",
            "vectors",
            "collection",
            "class_balance",
            "self_training",
            "degradation",
            "downscale",
            "ratios",
        ),
    ),
    ("model", ("model", "network", "embedder", "extended_level", "feature_extractor", "generator", "hidden_dim")),
    ("losses", ("adversarial", "loss_weights", "distillation", "focal_exponent", "regularization", "level_matching")),
    ("optimizer and schedule", ("optimizer", "detector_optimizer", "batch_size")),
)


def find_heading(paper: str, name: str) -> str:
    """Return the heading of the option ``name`` of ``featlift train PAPER``; the other stages' options stand under "stages"."""
    first, main = name.partition(".")[0], MAIN_STAGES[paper]
    if name == "steps" or (main and name.startswith(f"{main}.")):
        return "stages" if name == f"{main}.steps" and len(list_stages(paper)) > 1 else "optimizer and schedule"
    return next((heading for heading, names in _GROUPS if first in names), "stages")


def list_stages(paper: str) -> list[str]:
    """Return the stages of ``paper`` that have their own number of steps."""
    return [name.removesuffix(".steps") for name in SHORT_HELP[paper] if name.endswith(".steps")]
