"""Figures for a README or a paper's page: detections on images, and feature maps."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from featlift.checkpoints.atomic import write_atomic
from featlift.features import Features
from featlift.report.annotated_crops import StyledBox, crop_around, to_uint8
from featlift.report.curves import run_color
from featlift.report.feature_maps import build_heatmaps

CropXYWH = tuple[int, int, int, int]

VERDICT_COLORS = {"found": "#35d06a", "missed": "#ff5449", "false": "#ffb02e"}
"""Colors of EFPN's Fig. 8."""


def plot_before_after(
    path: str | Path,
    image: Tensor,
    boxes: tuple[Sequence[StyledBox], Sequence[StyledBox]],
    names: tuple[str, str],
    zoom_boxes: Sequence[Sequence[float]] = (),
) -> Path:
    """Write a PNG or SVG (by the suffix of ``path``) and return its path.

    One row for each of the two ``names``: the whole ``image [3, H, W]`` with its ``boxes`` (see `examples.ComparisonExamples.image_boxes`),
    then an enlarged, unsmoothed crop around each box xywh in ``zoom_boxes`` (two to four work best). Ground truth is dashed.
    """
    from matplotlib.figure import Figure

    path = Path(path)
    pixels, ratio = to_uint8(image), image.shape[2] / image.shape[1]
    figure = Figure(figsize=(2.6 * (ratio + len(zoom_boxes)), 5.5), layout="constrained", facecolor="white")
    axes = figure.subplots(2, 1 + len(zoom_boxes), squeeze=False, width_ratios=[ratio] + [1] * len(zoom_boxes))
    crops = [crop_around(box, (image.shape[1], image.shape[2])) for box in zoom_boxes]
    for row, name in enumerate(names):
        _draw_panel(axes[row, 0], pixels, (0, 0, image.shape[2], image.shape[1]), boxes[row], run_color(row))
        axes[row, 0].set_title(name, loc="left", fontsize=12, fontweight="bold", color=run_color(row))
        for column, crop in enumerate(crops, 1):
            _draw_panel(axes[row, column], pixels, crop, boxes[row], run_color(row))
    return save_figure(figure, path)


def plot_verdicts(path: str | Path, images: Sequence[tuple[Tensor, Mapping[str, Sequence[StyledBox]]]]) -> Path:
    """Write a PNG or SVG (by the suffix of ``path``) with found, missed and false boxes (EFPN, Fig. 8); return its path.

    Args:
        path: Output file.
        images: Pairs of an image ``[3, H, W]`` (one row each) and detector name → boxes (one column each), see
            `examples.classify_detections`. Images are cropped to the region with all boxes.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    names = list(images[0][1])
    figure = Figure(figsize=(3.6 * len(names), 3.7 * len(images) + 0.6), layout="constrained", facecolor="white")
    axes = figure.subplots(len(images), len(names), squeeze=False)
    for row, (image, boxes_by_name) in zip(axes, images, strict=True):
        all_boxes = [box for boxes in boxes_by_name.values() for box in boxes]
        crop = _crop_around(all_boxes, (image.shape[1], image.shape[2]))
        for panel, name in zip(row, names, strict=True):
            _draw_panel(panel, to_uint8(image), crop, (), "")
            _draw_verdicts(panel, boxes_by_name[name])
    for panel, name in zip(axes[0], names, strict=True):
        panel.set_title(name, loc="left", fontsize=11, fontweight="bold")
    handles = [
        Patch(edgecolor=color, facecolor="none", linewidth=2, label=style) for style, color in VERDICT_COLORS.items()
    ]
    figure.legend(handles=handles, loc="outside lower left", ncols=3, frameon=False)
    return save_figure(figure, Path(path))


def plot_feature_maps(path: str | Path, image: Tensor, features: Mapping[str, Features]) -> Path:
    """Write a PNG or SVG (by the suffix of ``path``) with the levels that all ``features`` have (EFPN, Fig. 6); return its path.

    One row for each level, with ``image [3, H, W]`` first; colors are the mean of ``|x|`` over channels, on one scale per row.
    """
    from matplotlib.figure import Figure

    heatmaps = build_heatmaps(features)
    ratio = image.shape[1] / image.shape[2]
    size = (3.0 * (1 + len(features)), (3.0 * ratio + 0.3) * len(heatmaps))
    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    axes = figure.subplots(len(heatmaps), 1 + len(features), squeeze=False)
    for row, (level, heatmap_by_name) in zip(axes, heatmaps.items(), strict=True):
        columns = {"image": to_uint8(image), **heatmap_by_name}
        for panel, (name, pixels) in zip(row, columns.items(), strict=True):
            panel.imshow(pixels, interpolation="nearest")
            panel.set(xticks=[], yticks=[])
            panel.set_title(name if name == "image" else f"{level}: {name}", loc="left", fontsize=11)
    return save_figure(figure, Path(path))


def save_figure(figure: Any, path: Path) -> Path:
    """Write a matplotlib figure to ``path`` atomically, creating its folder; return ``path``."""
    return write_atomic(path, lambda unfinished: figure.savefig(unfinished, format=path.suffix[1:], dpi=150))


def _crop_around(boxes: Sequence[StyledBox], size: tuple[int, int]) -> CropXYWH:
    """Return a crop of an image of ``size`` (H, W) with all ``boxes`` and a margin; the whole image without boxes."""
    if not boxes:
        return (0, 0, size[1], size[0])
    left, top = min(box.x for box in boxes), min(box.y for box in boxes)
    right, bottom = max(box.x + box.width for box in boxes), max(box.y + box.height for box in boxes)
    return crop_around((left, top, right - left, bottom - top), size, context=1.2, min_size=96)


def _draw_verdicts(panel: Any, boxes: Sequence[StyledBox]) -> None:
    from matplotlib.patches import Rectangle

    for box in boxes:
        style = {
            "edgecolor": VERDICT_COLORS[box.style],
            "linewidth": 1.6,
            "linestyle": "--" if box.style == "missed" else "-",
        }
        panel.add_patch(Rectangle((box.x, box.y), box.width, box.height, fill=False, **style))


def _draw_panel(panel: Any, pixels: Any, crop: CropXYWH, boxes: Sequence[StyledBox], color: str) -> None:
    from matplotlib.patches import Rectangle

    left, top, width, height = crop
    panel.imshow(pixels, interpolation="nearest", extent=(0, pixels.shape[1], pixels.shape[0], 0))
    panel.set(xlim=(left, left + width), ylim=(top + height, top), xticks=[], yticks=[])
    for box in boxes:
        is_truth = box.style == "truth"
        style = {"edgecolor": "white", "linestyle": (0, (4, 3))} if is_truth else {"edgecolor": color, "linewidth": 2}
        panel.add_patch(Rectangle((box.x, box.y), box.width, box.height, fill=False, **style))
