"""Pictures for a README or a paper's page: what detectors saw, and the maps in which they saw it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

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
    """Write a PNG or SVG (by the ending of ``path``) and return its path.

    Two rows, one for each of ``names``: the whole ``image [3, H, W]`` with its ``boxes`` (see
    `examples.Scenes.outlines`), then the surroundings of each box xywh in ``zoom_boxes`` (two to four look best), enlarged
    so that pixels are seen. Ground truth is dashed.
    """
    from matplotlib.figure import Figure

    path = Path(path)
    pixels, ratio = to_uint8(image), image.shape[2] / image.shape[1]
    figure = Figure(figsize=(2.6 * (ratio + len(zoom_boxes)), 5.5), layout="constrained", facecolor="white")
    axes = figure.subplots(2, 1 + len(zoom_boxes), squeeze=False, width_ratios=[ratio] + [1] * len(zoom_boxes))
    parts = [crop_around(box, (image.shape[1], image.shape[2])) for box in zoom_boxes]
    for row, name in enumerate(names):
        _draw_panel(axes[row, 0], pixels, (0, 0, image.shape[2], image.shape[1]), boxes[row], run_color(row))
        axes[row, 0].set_title(name, loc="left", fontsize=12, fontweight="bold", color=run_color(row))
        for column, part in enumerate(parts, 1):
            _draw_panel(axes[row, column], pixels, part, boxes[row], run_color(row))
    return save_figure(figure, path)


def plot_verdicts(path: str | Path, images: Sequence[tuple[Tensor, Mapping[str, Sequence[StyledBox]]]]) -> Path:
    """Write a PNG or SVG (by the ending of ``path``) and return its path: found, missed and false, in colors (EFPN, Fig. 8).

    A row for each of ``images`` ``[3, H, W]``, a column for each detector, by name, with its outlines (see `examples.classify_detections`). Of
    a picture the part with all outlines is shown.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    names = list(images[0][1])
    figure = Figure(figsize=(3.6 * len(names), 3.7 * len(images) + 0.6), layout="constrained", facecolor="white")
    axes = figure.subplots(len(images), len(names), squeeze=False)
    for row, (image, seen) in zip(axes, images, strict=True):
        part = _crop_around([one for outlines in seen.values() for one in outlines], (image.shape[1], image.shape[2]))
        for panel, name in zip(row, names, strict=True):
            _draw_panel(panel, to_uint8(image), part, (), "")
            _draw_verdicts(panel, seen[name])
    for panel, name in zip(axes[0], names, strict=True):
        panel.set_title(name, loc="left", fontsize=11, fontweight="bold")
    key = [Patch(edgecolor=tint, facecolor="none", linewidth=2, label=style) for style, tint in VERDICT_COLORS.items()]
    figure.legend(handles=key, loc="outside lower left", ncols=3, frameon=False)
    return save_figure(figure, Path(path))


def plot_feature_maps(path: str | Path, image: Tensor, features: Mapping[str, Features]) -> Path:
    """Write a PNG or SVG (by the ending of ``path``) and return its path: the levels that all have, side by side (EFPN, Fig. 6).

    A row for each level, with ``image [3, H, W]`` first; colors are the mean of ``|x|`` over channels, on one scale in a row.
    """
    from matplotlib.figure import Figure

    shown = build_heatmaps(features)
    ratio = image.shape[1] / image.shape[2]
    size = (3.0 * (1 + len(features)), (3.0 * ratio + 0.3) * len(shown))
    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    for row, (level, pixels) in zip(
        figure.subplots(len(shown), 1 + len(features), squeeze=False), shown.items(), strict=True
    ):
        columns = {"picture": to_uint8(image), **pixels}
        for panel, (name, one) in zip(row, columns.items(), strict=True):
            panel.imshow(one, interpolation="nearest")
            panel.set(xticks=[], yticks=[])
            panel.set_title(name if name == "picture" else f"{level}: {name}", loc="left", fontsize=11)
    return save_figure(figure, Path(path))


def save_figure(figure: Any, path: Path) -> Path:
    """The file ``path`` with a figure of matplotlib, whole or not at all; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.part")
    figure.savefig(unfinished, format=path.suffix[1:], dpi=150)
    return unfinished.replace(path)


def _crop_around(boxes: Sequence[StyledBox], size: tuple[int, int]) -> CropXYWH:
    """The part of a picture of ``size`` (H, W) with all ``boxes`` and some margin; all of it if there are none."""
    if not boxes:
        return (0, 0, size[1], size[0])
    left, top = min(one.x for one in boxes), min(one.y for one in boxes)
    right, bottom = max(one.x + one.width for one in boxes), max(one.y + one.height for one in boxes)
    return crop_around((left, top, right - left, bottom - top), size, context=1.2, min_size=96)


def _draw_verdicts(panel: Any, boxes: Sequence[StyledBox]) -> None:
    from matplotlib.patches import Rectangle

    for one in boxes:
        look = {
            "edgecolor": VERDICT_COLORS[one.style],
            "linewidth": 1.6,
            "linestyle": "--" if one.style == "missed" else "-",
        }
        panel.add_patch(Rectangle((one.x, one.y), one.width, one.height, fill=False, **look))


def _draw_panel(panel: Any, pixels: Any, crop: CropXYWH, boxes: Sequence[StyledBox], color: str) -> None:
    from matplotlib.patches import Rectangle

    left, top, wide, high = crop
    panel.imshow(pixels, interpolation="nearest", extent=(0, pixels.shape[1], pixels.shape[0], 0))
    panel.set(xlim=(left, left + wide), ylim=(top + high, top), xticks=[], yticks=[])
    for one in boxes:
        truth = one.style == "truth"
        look = {"edgecolor": "white", "linestyle": (0, (4, 3))} if truth else {"edgecolor": color, "linewidth": 2}
        panel.add_patch(Rectangle((one.x, one.y), one.width, one.height, fill=False, **look))
