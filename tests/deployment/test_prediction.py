"""Drawing of detections."""

import torch
from PIL import Image

from featlift.deployment.prediction import draw_predictions


def test_only_what_scores_enough_is_drawn(tmp_path):
    detections = {
        "boxes": torch.tensor([[4.0, 4.0, 20.0, 20.0], [30.0, 30.0, 50.0, 50.0]]),
        "labels": torch.tensor([1, 2]),
        "scores": torch.tensor([0.9, 0.3]),
        "masks": torch.zeros(2, 1, 64, 64),
    }
    detections["masks"][0, :, 8:16, 8:16] = 1
    draw_predictions(torch.zeros(3, 64, 64), detections, ["a", "b"], 0.5, tmp_path / "drawn.png")
    drawn = torch.tensor(list(Image.open(tmp_path / "drawn.png").getdata())).view(64, 64, 3)
    assert drawn[4:21, 4:21].sum() > 0
    assert drawn[10, 12].sum() > 0
    assert drawn[28:, 28:].sum() == 0
