"""Pictures beside each other, with what was found in each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as nnf
from PIL import Image, ImageDraw
from torch import Tensor

FOUND, FALSE, MISSED = (40, 220, 90), (255, 70, 60), (255, 210, 0)
"""Colours of boxes: a right detection, a wrong one, an object nothing found."""

CAPTION, GAP = 30, 4
COLUMNS = 7
"""Panels in a row at the most."""

LEGEND = ((FOUND, "right"), (FALSE, "wrong"), (MISSED, "missed"))


@dataclass(frozen=True)
class Panel:
    """One picture of a sheet: pixels ``[3, H, W]`` in 0…1, a caption, and detections (boxes ``[N, 4]``, labels, scores) or None."""

    image: Tensor
    caption: str
    found: Mapping[str, Tensor] | None = None


def sheet(
    panels: Sequence[Panel],
    truth: Mapping[str, Tensor],
    window: tuple[int, int, int, int],
    zoom: int = 4,
    score: float = 0.5,
) -> Image.Image:
    """``panels`` in as few rows as hold them, each the ``window`` (top, left, height, width in px), each pixel ``zoom`` times as large.

    Detections of ``score`` or more are green where they fit an object of ``truth`` (boxes ``[N, 4]`` xyxy px, labels ``[N]``) of their
    class with an IoU of ½, red otherwise; objects that are not found are yellow.
    """
    drawn = [_panel(panel, truth, window, zoom, score) for panel in panels]
    rows = -(-len(drawn) // COLUMNS)
    columns = -(-len(drawn) // rows)
    width, height = drawn[0].width + GAP, drawn[0].height
    whole = Image.new("RGB", (columns * width - GAP, rows * height + CAPTION), "white")
    for place, part in enumerate(drawn):
        whole.paste(part, (place % columns * width, place // columns * height))
    _legend(ImageDraw.Draw(whole), rows * height)
    return whole


def _legend(pen: ImageDraw.ImageDraw, top: int) -> None:
    for place, (colour, word) in enumerate(LEGEND):
        pen.rectangle([6 + 90 * place, top + 9, 18 + 90 * place, top + 21], outline=colour, width=2)
        pen.text((24 + 90 * place, top + 6), word, fill="black", font_size=15)


def _panel(
    panel: Panel, truth: Mapping[str, Tensor], window: tuple[int, int, int, int], zoom: int, score: float
) -> Image.Image:
    top, left, height, width = window
    part = panel.image[:, top : top + height, left : left + width]
    part = nnf.interpolate(part[None], scale_factor=zoom, mode="nearest")[0]
    pixels = (part.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    canvas = Image.new("RGB", (width * zoom, height * zoom + CAPTION), "white")
    canvas.paste(Image.fromarray(pixels), (0, CAPTION))
    pen = ImageDraw.Draw(canvas)
    pen.text((6, 6), panel.caption, fill="black", font_size=15)
    for box, colour in outlines(panel.found, truth, score) if panel.found is not None else []:
        x1, y1, x2, y2 = ((edge - (left, top)[k % 2]) * zoom for k, edge in enumerate(box))
        if x1 < canvas.width and y1 < height * zoom and x2 > 0 and y2 > 0:
            pen.rectangle([max(x1, 0), max(y1, 0) + CAPTION, x2, y2 + CAPTION], outline=colour, width=2)
    return canvas


def outlines(
    found: Mapping[str, Tensor], truth: Mapping[str, Tensor], score: float = 0.5
) -> list[tuple[list[float], tuple[int, int, int]]]:
    """Boxes and their colours: every detection of ``score`` or more, best first, takes one object of its class at most."""
    order = [int(i) for i in found["scores"].argsort(descending=True) if found["scores"][i] >= score]
    free = set(range(len(truth["boxes"])))
    drawn: list[tuple[list[float], tuple[int, int, int]]] = []
    for index in order:
        box = found["boxes"][index]
        fitting = {j: _overlap(box, truth["boxes"][j]) for j in free if truth["labels"][j] == found["labels"][index]}
        best = max(fitting, key=lambda j: fitting[j], default=None)
        right = best is not None and fitting[best] >= 0.5
        free -= {best} if right else set()
        drawn.append((box.tolist(), FOUND if right else FALSE))
    return [(truth["boxes"][j].tolist(), MISSED) for j in sorted(free)] + drawn


def _overlap(a: Tensor, b: Tensor) -> float:
    low, high = torch.maximum(a[:2], b[:2]), torch.minimum(a[2:], b[2:])
    shared = (high - low).clamp(min=0).prod()
    return float(shared / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - shared))
