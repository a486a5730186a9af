"""Figure of ``photograph.py``: whole photographs with the detections of two detectors, and enlarged crops of changed objects below."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from featlift.report.annotated_crops import StyledBox, crop_around, to_uint8
from featlift.report.figure import CropXYWH, save_figure

NUM_CROPS = 3
STYLES = {
    "truth": ("white", "an object (ground truth)"),
    "found": ("#35d06a", "detection that is right: class, and IoU of at least 0.5"),
    "false": ("#ff3fd2", "detection that is wrong"),
}
"""Style of a box → its color and its words in the legend."""


@dataclass(frozen=True)
class Photograph:
    """An image ``[3, H, W]`` with the boxes of the left and of the right detector, and objects xywh to enlarge."""

    title: str
    image: Tensor
    boxes: tuple[Sequence[StyledBox], Sequence[StyledBox]]
    objects: Sequence[Sequence[float]]


def plot_photographs(path: Path, photographs: Sequence[Photograph], names: tuple[str, str], width: float = 9) -> Path:
    """Write a PNG of ``width`` inches (150 dpi): for each photograph, the detector ``names`` side by side; return ``path``."""
    from matplotlib.figure import Figure

    side = width / 2
    heights = [side * item.image.shape[1] / item.image.shape[2] + side / NUM_CROPS + 0.75 for item in photographs]
    drawing = Figure(figsize=(width, sum(heights) + 0.3), layout="constrained", facecolor="white")
    parts = drawing.subfigures(len(photographs), 1, height_ratios=heights, squeeze=False)[:, 0]
    for part, photograph in zip(parts, photographs, strict=True):
        _draw_photograph(part, photograph, names)
    drawing.legend(handles=_legend_lines(), loc="outside lower left", ncols=len(STYLES), frameon=False, fontsize=9)
    return save_figure(drawing, path)


def _draw_photograph(part: Any, photograph: Photograph, names: tuple[str, str]) -> None:
    from matplotlib.patheffects import Normal, Stroke

    height, width = photograph.image.shape[1:]
    pixels = to_uint8(photograph.image)
    part.suptitle(photograph.title, x=0.005, ha="left", fontsize=11, fontweight="bold")
    grid = part.add_gridspec(2, 2 * NUM_CROPS, height_ratios=[NUM_CROPS * height / width, 1])
    for column, (name, boxes) in enumerate(zip(names, photograph.boxes, strict=True)):
        first = column * NUM_CROPS
        panel = part.add_subplot(grid[0, first : first + NUM_CROPS])
        _draw_boxes(panel, pixels, (0, 0, width, height), boxes, 1.0)
        panel.set_title(name, loc="left", fontsize=10)
        for number, box in enumerate(photograph.objects):
            crop = crop_around(box, (height, width))
            place = {"xy": (box[0] + box[2], box[1]), "xytext": (2, 0), "textcoords": "offset points"}
            outline = [Stroke(linewidth=2, foreground="black"), Normal()]
            panel.annotate(str(number + 1), **place, color="white", fontsize=10, path_effects=outline)
            enlarged = part.add_subplot(grid[1, first + number])
            _draw_boxes(enlarged, pixels, crop, boxes, 2.0)
            enlarged.set_title(f"{number + 1}, enlarged", loc="left", fontsize=9)


def _draw_boxes(panel: Any, pixels: Any, crop: CropXYWH, boxes: Sequence[StyledBox], line_width: float) -> None:
    from matplotlib.patches import Rectangle

    left, top, width, height = crop
    panel.imshow(pixels, interpolation="nearest", extent=(0, pixels.shape[1], pixels.shape[0], 0))
    panel.set(xlim=(left, left + width), ylim=(top + height, top), xticks=[], yticks=[])
    for box in sorted(boxes, key=lambda box: box.style != "truth"):
        panel.add_patch(
            Rectangle((box.x, box.y), box.width, box.height, fill=False, **_line_style(box.style, line_width))
        )


def _line_style(style: str, line_width: float) -> dict[str, Any]:
    from matplotlib.patheffects import Normal, Stroke

    solid = {"dash_offset": 0, "dash_list": None}
    effects = [Stroke(linewidth=line_width + 1.2, foreground="black", dashes=solid), Normal()]
    dashes = {"linestyle": (0, (2.5, 2))} if style == "truth" else {}
    return {"edgecolor": STYLES[style][0], "linewidth": line_width, "path_effects": effects, **dashes}


def _legend_lines() -> list[Any]:
    from matplotlib.patches import Patch

    return [Patch(facecolor="none", label=words, **_line_style(style, 1.6)) for style, (_, words) in STYLES.items()]
