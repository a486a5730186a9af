"""Draw detections into images."""

from collections.abc import Sequence

import torch
from torch import Tensor

COLORS = (
    "#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#008080", "#f032e6", "#9a6324", "#800000", "#808000", "#000075", "#469990",
)  # fmt: skip
"""Colors of the classes, in turn."""


def draw_detections(
    image: Tensor, boxes: Tensor, texts: Sequence[str], labels: Tensor, masks: Tensor | None = None
) -> Tensor:
    """Return ``image`` ``[3, H, W]`` in 0…1 as uint8 with boxes ``[N, 4]`` xyxy, texts, and masks ``[N, H, W]``, colored by ``labels``."""
    from torchvision.utils import draw_bounding_boxes, draw_segmentation_masks

    canvas = (image * 255).round().clamp(0, 255).to(torch.uint8)
    colors = [COLORS[(label - 1) % len(COLORS)] for label in labels.tolist()]
    if masks is not None and len(masks):
        canvas = draw_segmentation_masks(canvas, masks.bool(), alpha=0.4, colors=colors)
    if texts:
        canvas = draw_bounding_boxes(canvas, boxes, list(texts), colors=colors, width=2)
    return canvas
