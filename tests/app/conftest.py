import pytest
import torch
from torch import nn

from featlift.deployment.predictor import Predictor

FIRST = [[10.0, 10, 30, 30], [40, 10, 60, 30], [5, 50, 25, 70]]
SECOND = [[11.0, 10, 31, 30], [40, 50, 60, 70]]


class ToyBackbone(nn.Module):
    """Maps an image to two levels."""

    def forward(self, image):
        pooled = image.mean(1, keepdim=True)[..., ::4, ::4]
        return {"p2": pooled.repeat(1, 4, 1, 1), "p3": pooled[..., ::2, ::2].repeat(1, 4, 1, 1)}


class ToyDetector(nn.Module):
    """Finds the same boxes in every image: the last with a score of 0.4, the others with 0.9."""

    def __init__(self, boxes):
        super().__init__()
        self.backbone, self.boxes = ToyBackbone(), torch.tensor(boxes)

    def forward(self, images):
        self.backbone(images[0][None])
        scores = torch.full((len(self.boxes),), 0.9)
        scores[-1] = 0.4
        return [{"boxes": self.boxes, "labels": torch.ones(len(self.boxes), dtype=torch.int64), "scores": scores}]


@pytest.fixture
def predictors():
    """First: sign at 10, 40 and, with 0.4, at (5, 50). Second: the first sign one pixel to the right, and another with 0.4."""
    return {
        name: Predictor(ToyDetector(boxes), device="cpu", classes=["sign"])
        for name, boxes in (("nearest", FIRST), ("afi", SECOND))
    }
