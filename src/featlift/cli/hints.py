"""Options and verbs of other toolkits, and what they are called here; spelling suggestions for all others."""

from dataclasses import dataclass

from featlift.cli.groups import MAIN_STAGES
from featlift.cli.option_table import OptionTable
from featlift.registry import find_nearest, suggest


@dataclass(frozen=True)
class Hint:
    """A hint for an option that a command does not have.

    Attributes:
        needs: The command must have this option; "" if the hint suits any command.
        text: The hint. ``{stage}`` is the paper's main stage, ``{flag}`` the option that is needed, as it is typed.
    """

    needs: str
    text: str


_LR = (
    Hint("{stage}.optimizer.lr", "--{stage}.optimizer.lr sets the learning rate of the stage '{stage}'."),
    Hint("optimizer.lr", "--optimizer.lr sets the learning rate."),
)
_BATCH_SIZE = (Hint("data.batch_size", "--data.batch-size sets the number of images per step."),)
_EPOCHS = (
    Hint("{stage}.steps", "FeatLift counts steps: --{stage}.steps = epochs * images / batch size."),
    Hint("steps", "FeatLift counts steps: --steps = epochs * images / batch size."),
    Hint("step_scale", "FeatLift counts steps: --step-scale multiplies those of the preset."),
)
_IMAGE_SIZE = (
    Hint("data.min_size", "--data.min-size and --data.max-size set the sides of the images in pixels."),
    Hint("data.crop_size", "--data.crop-size sets the side of the crops in pixels."),
    Hint("embedder.input_size", "--embedder.input-size sets the side of the embedder's input in pixels."),
    Hint("image_size", "--image-size sets the size of the image."),
    Hint("scales", "--scales multiplies the size at which the detector was trained."),
)
_SCORE = (
    Hint("score_threshold", "--score-threshold sets the minimum score of the detections that are drawn."),
    Hint("", "'featlift predict' has --score-threshold."),
)
_SOURCE = (
    Hint("sources", "Give images and folders without an option: featlift predict RUN IMAGES."),
    Hint("images", "Give the images as {flag}."),
    Hint("queries", "Give the query images without an option: featlift search INDEX QUERIES."),
    Hint("folder", "Give the folder of images without an option: featlift index FOLDER."),
    Hint("data.root", "--data FOLDER names the images."),
    Hint("collection.image_folder", "--data FOLDER names the images."),
    Hint("data", "--data FOLDER names the images."),
)
_RESUME = (
    Hint("run", "The same command with the same --run resumes."),
    Hint("out", "The same command with the same {flag} continues or repeats."),
)
_PRETRAINED = (
    Hint(
        "model.backbone_weights", "--model.backbone-weights names the backbone's weights: imagenet, random or a file."
    ),
    Hint("embedder.weights", "--embedder.weights names the encoder's weights."),
    Hint("network.weights", "--network.weights names the network's weights."),
    Hint("weights", "{flag} names the weights."),
)
_WEIGHTS = (
    Hint("init_from", "--init-from starts from a detector; --model.backbone-weights from a backbone's weights."),
    Hint("model", "Give the run folder or file of weights as {flag}."),
    *_PRETRAINED,
    Hint("first", "Give two run folders without an option: featlift compare FIRST SECOND."),
)
_WORKERS = (
    Hint("data.num_workers", "--data.num-workers sets the number of processes that load images."),
    Hint("", "FeatLift loads images in this process here; 'featlift train baseline' has --data.num-workers."),
)
_FOLDER = (
    Hint("run", "--run FOLDER names the run's folder."),
    Hint("out", "{flag} names the file or folder that is written."),
    Hint("plot_file", "--plot-file names the file that is written."),
)
_VAL = (
    Hint("split", "--split val evaluates the validation images."),
    Hint("", "Every training is evaluated at its end; 'featlift evaluate' evaluates a run again."),
)
_PRECISION = (
    Hint("precision", "--precision sets the number format: fp32, bf16 or fp16."),
    Hint("", "'featlift train baseline' has --precision."),
)
_PATIENCE = (Hint("", "FeatLift has no early stopping; trainings run for a number of steps."),)
_CLASSES = (
    Hint("data.root", "The classes are those of the annotations in --data FOLDER."),
    Hint(
        "", "FeatLift does not select classes; they are those of the annotations with which the detector was trained."
    ),
)
_SAVE = (
    Hint(
        "",
        "'featlift predict' writes annotated images and predictions.json to its folder --out, with --save-txt also YOLO labels.",
    ),
)
_IOU = (
    Hint("merge_method", "--merge-method chooses how the detections of several --scales are merged: nms or soft-nms."),
    Hint("", "The NMS is part of the trained detector; 'featlift evaluate' has --merge-method."),
)
_CACHE = (
    Hint("embedder.cache_folder", "--embedder.cache-folder names the folder of cached descriptors."),
    Hint("data.num_workers", "FeatLift does not cache images; --data.num-workers sets the processes that load them."),
    Hint("", "FeatLift does not cache images."),
)
_EXIST_OK = (
    *_RESUME,
    Hint("", "An existing file is overwritten."),
)
_OPTIMIZER = (
    Hint("{stage}.optimizer.name", "--{stage}.optimizer.name sets the optimizer of the stage '{stage}'."),
    Hint("optimizer.name", "--optimizer.name sets the optimizer."),
)
_TRACKER = (
    Hint("tracker", "--tracker logs to an experiment tracker: tensorboard, wandb or mlflow."),
    Hint("", "'featlift train baseline' has --tracker: tensorboard, wandb or mlflow."),
)

OPTION_HABITS: dict[str, tuple[Hint, ...]] = {
    "lr": _LR,
    "lr0": _LR,
    "learning_rate": _LR,
    "batch": _BATCH_SIZE,
    "batch_size": _BATCH_SIZE,
    "epochs": _EPOCHS,
    "max_epochs": _EPOCHS,
    "max_iter": _EPOCHS,
    "steps": _EPOCHS,
    "imgsz": _IMAGE_SIZE,
    "img": _IMAGE_SIZE,
    "img_size": _IMAGE_SIZE,
    "image_size": _IMAGE_SIZE,
    "conf": _SCORE,
    "conf_thres": _SCORE,
    "threshold": _SCORE,
    "source": _SOURCE,
    "input": _SOURCE,
    "images": _SOURCE,
    "resume": _RESUME,
    "pretrained": _PRETRAINED,
    "weights": _WEIGHTS,
    "checkpoint": _WEIGHTS,
    "workers": _WORKERS,
    "num_workers": _WORKERS,
    "project": _FOLDER,
    "name": _FOLDER,
    "output": _FOLDER,
    "output_dir": _FOLDER,
    "work_dir": _FOLDER,
    "out": _FOLDER,
    "val": _VAL,
    "amp": _PRECISION,
    "half": _PRECISION,
    "patience": _PATIENCE,
    "classes": _CLASSES,
    "save_txt": _SAVE,
    "show": _SAVE,
    "iou": _IOU,
    "nms": _IOU,
    "cache": _CACHE,
    "exist_ok": _EXIST_OK,
    "vid_stride": (Hint("frame_step", "--frame-step uses every n-th frame of a video."), *_SAVE),
    "fp16": _PRECISION,
    "optimizer": _OPTIMIZER,
    "tensorboard": _TRACKER,
    "wandb": _TRACKER,
    "mlflow": _TRACKER,
    "report_to": _TRACKER,
    "logger": _TRACKER,
}
"""Option of another toolkit → hints; the first whose option the command has is given."""

VERB_HABITS: dict[str, str] = {
    "val": "evaluate",
    "validate": "evaluate",
    "eval": "evaluate",
    "test": "evaluate",
    "detect": "predict",
    "infer": "predict",
    "inference": "predict",
    "segment": "predict",
    "fit": "train",
    "finetune": "train",
    "convert": "export",
    "sr": "upscale",
    "super-resolve": "upscale",
    "cost": "profile",
    "flops": "profile",
    "embed": "index",
    "retrieve": "search",
    "diff": "compare",
    "benchmarks": "benchmark",
}
"""Verb of another toolkit → verb of FeatLift."""

VERB_HINTS: dict[str, str] = {
    "track": "FeatLift does not track; 'featlift predict' detects objects in images.",
    "optimize": "'featlift export' writes ONNX and OpenVINO files; 'featlift upgrade --max-latency-ms' keeps to a latency.",
    "tune": "FeatLift does not search settings; 'featlift benchmark' compares interpolators over several seeds.",
    "version": "'featlift --version' prints the version.",
    "help": "'featlift --help' lists the commands, 'featlift COMMAND --help' the options of one.",
}
"""Verb of another toolkit that FeatLift lacks → hint."""


def suggest_option(name: str, table: OptionTable) -> str:
    """Return a sentence that tells what ``--name``, which the command lacks, is called here; "" if nothing is near."""
    habit = find_habit(name, table)
    if habit:
        return f" {habit}"
    nearest = _find_nearest(name.replace("_", "-"), [flag[2:] for flag in table.flags()])
    return f" Did you mean --{nearest}?" if nearest else ""


def _find_nearest(wanted: str, flags: list[str]) -> str:
    """Return the flag nearest to ``wanted`` by its whole name, else by its last part, else one that begins with it."""
    by_last_name = {flag.rpartition(".")[2]: flag for flag in reversed(flags)}
    last_name = find_nearest(wanted.rpartition(".")[2], by_last_name)
    beginnings = [flag for flag in flags if len(wanted) > 2 and flag.startswith(wanted)]
    return find_nearest(wanted, flags, 0.75) or by_last_name.get(last_name, "") or next(iter(beginnings), "")


def find_habit(name: str, table: OptionTable) -> str:
    """Return the hint of :data:`OPTION_HABITS` for ``--name`` in the command of ``table``; "" if there is none."""
    stage = MAIN_STAGES.get(table.command.removeprefix("train "), "")
    names = {option.name for option in table.options}
    for hint in OPTION_HABITS.get(name.replace("-", "_").lower(), ()):
        needs = hint.needs.format(stage=stage)
        if not needs or needs in names:
            needed = table.find(needs)
            return hint.text.format(stage=stage, flag=needed.flag if needed else "")
    return ""


def suggest_verb(name: str, verbs: list[str]) -> str:
    """Return a sentence that names the verb meant by ``name``; "" if nothing is near."""
    if name in VERB_HINTS and "train" in verbs:
        return f" {VERB_HINTS[name]}"
    return f" Did you mean '{VERB_HABITS[name]}'?" if VERB_HABITS.get(name) in verbs else suggest(name, verbs)
