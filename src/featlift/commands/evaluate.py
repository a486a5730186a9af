"""``featlift evaluate``: metrics of a finished run, or of a detector file."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from featlift.papers.fdsr.evaluation import SRDetectionConfig, evaluate_sr_run
from featlift.papers.registry import PAPERS
from featlift.runs.options import InferenceOptions
from featlift.runs.results import read_paper
from featlift.runs.submission import submit_detections
from featlift.training import distributed

DEFAULT_INFERENCE = InferenceOptions()


def evaluate(
    model: str,
    data: str = "",
    split: str = "val",
    out: str = "",
    super_resolvers: dict[str, str] | None = None,
    downscale: tuple[int, ...] = (4,),
    submit: bool = False,
    inference: InferenceOptions = DEFAULT_INFERENCE,
) -> dict[str, Any]:
    """Evaluate a run as its paper does: a detector by COCO AP and AR, also of tiny objects (< 16²); FSR-GAN by retrieval metrics.

    Under ``torchrun`` the images are divided among all processes.

    Args:
        model: Run folder or detector file; or, with ``data``, a detector of another library: NAME of torchvision, ultralytics:yolo11n.pt,
            hf:FOLDER_OR_ID, yolox:FILE, or FILE.py:FUNCTION.
        data: COCO folder, TT100K folder (adds the metrics of TT100K's own protocol) or "scenes"; default: the run's training data.
        split: Split: "val" (TT100K's "test"), "train", or COCO's "test-dev" with ``--submit``.
        out: JSON file for metrics and detections (TT100K's accuracy-recall plot is written next to it); default: next to the detector.
        super_resolvers: Super-resolution networks by name, such as ``--super-resolvers.fdsr runs/fdsr``. The detector is evaluated on
            images that are downscaled and then upscaled by each network and by bicubic interpolation, and on the original images (FDSR,
            Sec. 3). ``out`` is then a folder.
        downscale: Factor by which image sides are reduced for ``super_resolvers``. Several, as ``4,2,8``, add a plot of AP against the
            factor (``robustness.png``); each adds one evaluation.
        submit: Only detect, and write the zip files that COCO's evaluation server takes into the folder ``out``.
        inference: Batch size, device, test-time augmentation, class names and weights.

    Raises:
        ValueError: If the classes of the dataset differ from the detector's, or ``super_resolvers`` is given with options that it ignores.
    """
    inference = replace(inference, device=str(distributed.init_distributed(inference.device)))
    try:
        return _evaluate(model, data, split, out, super_resolvers or {}, downscale, submit, inference)
    finally:
        distributed.shutdown_distributed()


def _evaluate(
    model: str,
    data: str,
    split: str,
    out: str,
    super_resolvers: dict[str, str],
    downscale: tuple[int, ...],
    submit: bool,
    inference: InferenceOptions,
) -> dict[str, Any]:
    if submit:
        paths = submit_detections(model, data, split, out, inference)
        print("\n".join(map(str, paths)))
        return {"submissions": [str(path) for path in paths]}
    if super_resolvers:
        _check_used_options(inference)
        sweep = downscale if len(downscale) > 1 else ()
        config = SRDetectionConfig(
            model,
            super_resolvers,
            "",
            data,
            split,
            next(iter(downscale), 4),
            downscale_sweep=sweep,
            device=inference.device,
            class_map=inference.class_map,
            image_size=inference.image_size,
        )
        return evaluate_sr_run(config, Path(out or f"{model}/super_resolved"))
    return PAPERS[read_paper(model)].evaluate_run(model, data, split, out, inference)


def _check_used_options(inference: InferenceOptions) -> None:
    """Refuse options of ``inference`` that an evaluation of super-resolution networks does not use."""
    used = ("batch_size", "device", "class_map", "image_size")
    names = [field.name for field in fields(inference) if field.name not in used]
    given = [name for name in names if getattr(inference, name) != getattr(DEFAULT_INFERENCE, name)]
    if given:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise ValueError(
            f"--super-resolvers does not use {options}; leave it out, or evaluate without --super-resolvers."
        )
