"""Two detectors on one image: boxes that appeared and vanished, feature maps of each level, and time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from featlift.deployment.predictor import Prediction, Predictor
from featlift.detectors.feature_extraction import record_calls
from featlift.evaluation.detection_changes import find_detection_changes
from featlift.features import Features
from featlift.profiling import measure_latencies
from featlift.report.feature_maps import to_heatmaps

COLORS = {"vanished": "#ff5449", "appeared": "#35d06a", "both": "#ffffff"}
"""Colors of boxes that only the first, only the second, and both detectors have."""
MIN_DRAWN_SIZE = 640
"""Smaller images are enlarged by a whole number before boxes are drawn, so that small objects can be seen; in pixels of the long side."""


@dataclass(frozen=True)
class DetectorOutput:
    """Output of a detector for an image.

    Attributes:
        prediction: All detections.
        features: Feature maps by level, finest first; empty if the detector has no feature pyramid.
        milliseconds: Median time of a forward pass.
    """

    prediction: Prediction
    features: Features
    milliseconds: float


def run_detectors(predictors: Mapping[str, Predictor], image: Tensor, rounds: int = 3) -> dict[str, DetectorOutput]:
    """Run every detector on ``image [3, H, W]``: once for its detections and feature maps, then ``rounds`` times in turns for its time."""
    found = {name: _detect(predictor, image) for name, predictor in predictors.items()}
    calls = {name: (lambda predictor=predictor: predictor(image)) for name, predictor in predictors.items()}
    latencies = measure_latencies(calls, rounds, warmup=0)
    return {name: DetectorOutput(*found[name], 1e3 * latencies[name].median) for name in predictors}


def _detect(predictor: Predictor, image: Tensor) -> tuple[Prediction, Features]:
    backbone = getattr(predictor.detector, "backbone", None)
    with record_calls([backbone] if isinstance(backbone, nn.Module) else []) as calls:
        prediction = predictor(image)
    return prediction, _select_levels(*calls[0][::2]) if calls else {}


@torch.inference_mode()
def _select_levels(backbone: nn.Module, output: object) -> Features:
    """Return the pyramid's levels in the ``output`` of ``backbone``, and those of an extended level, finest first."""
    if not isinstance(output, Mapping):
        return {}
    maps = {**output, **backbone.extended_levels(output)} if hasattr(backbone, "extended_levels") else output  # type: ignore[operator]
    levels = {name: x.cpu() for name, x in maps.items() if not name.startswith(("inner", "c"))}
    return dict(sorted(levels.items(), key=lambda item: -item[1].shape[-1]))


def find_changed(predictions: Sequence[Prediction]) -> list[Tensor]:
    """Return for each of one or two predictions which detections ``[N]`` the other does not have; none for a single prediction."""
    if len(predictions) == 1:
        return [torch.zeros(len(predictions[0]), dtype=torch.bool)]
    first, second = predictions
    return list(find_detection_changes((first.boxes, second.boxes), (first.class_names, second.class_names)))


def draw_changes(prediction: Prediction, changed: Tensor, kind: str) -> NDArray[np.uint8]:
    """Draw the boxes of ``prediction``: those ``changed`` in the color of ``kind``, with class and score; the others white.

    Returns ``[s·H, s·W, 3]``; the factor s is 1 for images of at least `MIN_DRAWN_SIZE`.
    """
    from torchvision.utils import draw_bounding_boxes

    scale = -(-MIN_DRAWN_SIZE // max(prediction.image.shape[1:]))
    canvas = (prediction.image * 255).round().clamp(0, 255).to(torch.uint8)
    canvas = canvas.repeat_interleave(scale, 1).repeat_interleave(scale, 2)
    order = changed.long().argsort()  # changed boxes are drawn last, on top
    marks = [bool(changed[i]) for i in order]
    texts = [f"{prediction.class_names[i]} {prediction.scores[i]:.2f}" if changed[i] else None for i in order]
    if len(order):
        colors = [COLORS[kind] if mark else COLORS["both"] for mark in marks]
        canvas = draw_bounding_boxes(canvas, prediction.boxes[order] * scale, texts, colors=colors, width=2)  # type: ignore[arg-type]
    return canvas.permute(1, 2, 0).numpy()


def draw_feature_maps(features: Mapping[str, Features], size: int = 320) -> list[tuple[NDArray[np.uint8], str]]:
    """Return a heat map ``[H, W, 3]`` and a caption for each level of each detector, level by level, finest first.

    Colors are the mean of ``|x|`` over channels, on one scale per level. Maps are enlarged by a whole number to about ``size`` pixels.
    """
    widths = {level: x.shape[-1] for maps in features.values() for level, x in maps.items()}
    images = []
    for level in sorted(widths, key=lambda level: -widths[level]):
        present = {name: maps[level][0].float().numpy() for name, maps in features.items() if level in maps}
        heatmaps, _ = to_heatmaps(list(present.values()))
        for (name, x), heatmap in zip(present.items(), heatmaps, strict=True):
            scale = max(1, round(size / max(heatmap.shape[:2])))
            caption = f"{level}: {name}, {x.shape[1]} x {x.shape[2]} cells"
            images.append((heatmap.repeat(scale, 0).repeat(scale, 1), caption))
    return images


def format_table(
    outputs: Mapping[str, DetectorOutput], predictions: Sequence[Prediction], changed: Sequence[Tensor]
) -> str:
    """Format number of detections, of those that only this detector has, and milliseconds as a Markdown table."""
    lines = ["| detector | detections | only here | ms per image |", "|:--|--:|--:|--:|"]
    for (name, output), prediction, only in zip(outputs.items(), predictions, changed, strict=True):
        lines.append(f"| {name} | {len(prediction)} | {int(only.sum())} | {output.milliseconds:.1f} |")
    return "\n".join(lines)
