"""Pictures beside each other, with what was found in each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as nnf
from PIL import Image, ImageDraw
from torch import Tensor

TRUE_POSITIVE_COLOUR, FALSE_POSITIVE_COLOUR, FALSE_NEGATIVE_COLOUR = (40, 220, 90), (255, 70, 60), (255, 210, 0)
"""Colors of boxes: a right detection, a wrong one, an object nothing found."""

CAPTION_HEIGHT, GAP = 30, 4
MAX_COLUMNS = 7
"""Panels in a row at the most."""

LEGEND = ((TRUE_POSITIVE_COLOUR, "right"), (FALSE_POSITIVE_COLOUR, "wrong"), (FALSE_NEGATIVE_COLOUR, "missed"))


@dataclass(frozen=True)
class ImagePanel:
    """One picture of a sheet: pixels ``[3, H, W]`` in 0…1, a caption, and detections (boxes ``[N, 4]``, labels, scores) or None."""

    image: Tensor
    caption: str
    detections: Mapping[str, Tensor] | None = None


def make_image_grid(
    panels: Sequence[ImagePanel],
    ground_truth: Mapping[str, Tensor],
    crop: tuple[int, int, int, int],
    zoom: int = 4,
    score_threshold: float = 0.5,
) -> Image.Image:
    """``panels`` in as few rows as hold them, each the ``crop`` (top, left, height, width in px), each pixel ``zoom`` times as large.

    Detections of ``score_threshold`` or more are green where they fit an object of ``ground_truth`` (boxes ``[N, 4]`` xyxy px, labels ``[N]``) of their
    class with an IoU of ½, red otherwise; objects that are not found are yellow.
    """
    drawn = [_draw_panel(panel, ground_truth, crop, zoom, score_threshold) for panel in panels]
    rows = -(-len(drawn) // MAX_COLUMNS)
    columns = -(-len(drawn) // rows)
    width, height = drawn[0].width + GAP, drawn[0].height
    whole = Image.new("RGB", (columns * width - GAP, rows * height + CAPTION_HEIGHT), "white")
    for place, part in enumerate(drawn):
        whole.paste(part, (place % columns * width, place // columns * height))
    _draw_legend(ImageDraw.Draw(whole), rows * height)
    return whole


def _draw_legend(draw: ImageDraw.ImageDraw, top: int) -> None:
    for place, (color, word) in enumerate(LEGEND):
        draw.rectangle([6 + 90 * place, top + 9, 18 + 90 * place, top + 21], outline=color, width=2)
        draw.text((24 + 90 * place, top + 6), word, fill="black", font_size=15)


def _draw_panel(
    panel: ImagePanel,
    ground_truth: Mapping[str, Tensor],
    crop: tuple[int, int, int, int],
    zoom: int,
    score_threshold: float,
) -> Image.Image:
    top, left, height, width = crop
    part = panel.image[:, top : top + height, left : left + width]
    part = nnf.interpolate(part[None], scale_factor=zoom, mode="nearest")[0]
    pixels = (part.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    canvas = Image.new("RGB", (width * zoom, height * zoom + CAPTION_HEIGHT), "white")
    canvas.paste(Image.fromarray(pixels), (0, CAPTION_HEIGHT))
    pen = ImageDraw.Draw(canvas)
    pen.text((6, 6), panel.caption, fill="black", font_size=15)
    for box, color in (
        color_boxes(panel.detections, ground_truth, score_threshold) if panel.detections is not None else []
    ):
        x1, y1, x2, y2 = ((edge - (left, top)[k % 2]) * zoom for k, edge in enumerate(box))
        if x1 < canvas.width and y1 < height * zoom and x2 > 0 and y2 > 0:
            pen.rectangle([max(x1, 0), max(y1, 0) + CAPTION_HEIGHT, x2, y2 + CAPTION_HEIGHT], outline=color, width=2)
    return canvas


def color_boxes(
    detections: Mapping[str, Tensor], ground_truth: Mapping[str, Tensor], score_threshold: float = 0.5
) -> list[tuple[list[float], tuple[int, int, int]]]:
    """Boxes and their colors: every detection of ``score_threshold`` or more, best first, takes one object of its class at most."""
    order = [
        int(i) for i in detections["scores"].argsort(descending=True) if detections["scores"][i] >= score_threshold
    ]
    free = set(range(len(ground_truth["boxes"])))
    drawn: list[tuple[list[float], tuple[int, int, int]]] = []
    for index in order:
        box = detections["boxes"][index]
        fitting = {
            j: _box_iou(box, ground_truth["boxes"][j])
            for j in free
            if ground_truth["labels"][j] == detections["labels"][index]
        }
        best = max(fitting, key=lambda j: fitting[j], default=None)
        right = best is not None and fitting[best] >= 0.5
        free -= {best} if right else set()
        drawn.append((box.tolist(), TRUE_POSITIVE_COLOUR if right else FALSE_POSITIVE_COLOUR))
    return [(ground_truth["boxes"][j].tolist(), FALSE_NEGATIVE_COLOUR) for j in sorted(free)] + drawn


def _box_iou(a: Tensor, b: Tensor) -> float:
    low, high = torch.maximum(a[:2], b[:2]), torch.minimum(a[2:], b[2:])
    shared = (high - low).clamp(min=0).prod()
    return float(shared / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - shared))
