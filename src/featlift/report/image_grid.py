"""Grid of image panels with the detections of several detectors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch.nn.functional as nnf
from PIL import Image, ImageDraw
from torch import Tensor
from torchvision.ops import box_iou

TRUE_POSITIVE_COLOR, FALSE_POSITIVE_COLOR, FALSE_NEGATIVE_COLOR = (40, 220, 90), (255, 70, 60), (255, 210, 0)
"""Colors of true positives, false positives and missed objects."""

CAPTION_HEIGHT, GAP = 30, 4
MAX_COLUMNS = 7
"""Maximum number of panels in a row."""

LEGEND = (
    (TRUE_POSITIVE_COLOR, "true positive"),
    (FALSE_POSITIVE_COLOR, "false positive"),
    (FALSE_NEGATIVE_COLOR, "missed"),
)


@dataclass(frozen=True)
class ImagePanel:
    """A panel of the grid: image ``[3, H, W]`` in 0…1, caption, and detections (boxes ``[N, 4]``, labels, scores) or None."""

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
    """Draw the ``crop`` (top, left, height, width in pixels) of all ``panels``, enlarged by ``zoom``, in as few rows as possible.

    Detections with at least ``score_threshold`` are green if they match an object of ``ground_truth`` (boxes ``[N, 4]`` xyxy px,
    labels ``[N]``) of their class with IoU ≥ 0.5, else red; missed objects are yellow.
    """
    images = [_draw_panel(panel, ground_truth, crop, zoom, score_threshold) for panel in panels]
    rows = -(-len(images) // MAX_COLUMNS)
    columns = -(-len(images) // rows)
    width, height = images[0].width + GAP, images[0].height
    grid = Image.new("RGB", (columns * width - GAP, rows * height + CAPTION_HEIGHT), "white")
    for index, image in enumerate(images):
        grid.paste(image, (index % columns * width, index // columns * height))
    _draw_legend(ImageDraw.Draw(grid), rows * height)
    return grid


def _draw_legend(draw: ImageDraw.ImageDraw, top: int) -> None:
    for index, (color, label) in enumerate(LEGEND):
        left = 6 + 130 * index
        draw.rectangle([left, top + 9, left + 12, top + 21], outline=color, width=2)
        draw.text((left + 18, top + 6), label, fill="black", font_size=15)


def _draw_panel(
    panel: ImagePanel,
    ground_truth: Mapping[str, Tensor],
    crop: tuple[int, int, int, int],
    zoom: int,
    score_threshold: float,
) -> Image.Image:
    top, left, height, width = crop
    x = panel.image[:, top : top + height, left : left + width]
    x = nnf.interpolate(x[None], scale_factor=zoom, mode="nearest")[0]
    pixels = (x.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
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
    """Return boxes with their colors.

    Detections with at least ``score_threshold`` are matched greedily, best first, to at most one object of their class.
    """
    order = [
        int(i) for i in detections["scores"].argsort(descending=True) if detections["scores"][i] >= score_threshold
    ]
    unmatched = set(range(len(ground_truth["boxes"])))
    overlaps = box_iou(detections["boxes"], ground_truth["boxes"])
    colored: list[tuple[list[float], tuple[int, int, int]]] = []
    for index in order:
        box = detections["boxes"][index]
        ious = {
            j: float(overlaps[index, j]) for j in unmatched if ground_truth["labels"][j] == detections["labels"][index]
        }
        best = max(ious, key=lambda j: ious[j], default=None)
        is_match = best is not None and ious[best] >= 0.5
        unmatched -= {best} if is_match else set()
        colored.append((box.tolist(), TRUE_POSITIVE_COLOR if is_match else FALSE_POSITIVE_COLOR))
    return [(ground_truth["boxes"][j].tolist(), FALSE_NEGATIVE_COLOR) for j in sorted(unmatched)] + colored
