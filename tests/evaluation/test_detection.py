import json

import numpy as np
import pytest
import torch
from torch import nn

from featlift.data.masks import rle_to_mask
from featlift.evaluation.detection import (
    detect_dataset,
    evaluate_detector,
    to_coco_results,
)

SIDE = 32


class Squares:
    """Six images: a white square on black in each except the last, which is empty; ids 10, 20, …, category 7"""

    classes, category_ids = ["square"], [7]

    def __init__(self, masks=False):
        self.masks = masks

    def __len__(self):
        return 6

    def __getitem__(self, index):
        image = torch.zeros(3, SIDE, SIDE)
        if index < 5:
            image[:, index : index + 8, 4:12] = 1
        return image, {"image_id": torch.tensor(10 * (index + 1))}

    def coco(self):
        objects = [
            {
                "id": i + 1,
                "image_id": 10 * (i + 1),
                "category_id": 7,
                "bbox": [4, i, 8, 8],
                "area": 64,
                "iscrowd": 0,
                "segmentation": [[4, i, 12, i, 12, i + 8, 4, i + 8]] if self.masks else [],
            }
            for i in range(5)
        ]
        images = [{"id": 10 * (i + 1), "width": SIDE, "height": SIDE} for i in range(6)]
        return {"images": images, "annotations": objects, "categories": [{"id": 7, "name": "square"}]}


class SquareDetector(nn.Module):
    """Detects the bounding box of bright pixels, with torchvision's detector interface."""

    def __init__(self, masks=False):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(()))
        self.masks = masks
        self.batch_sizes: list[int] = []

    def forward(self, images):
        assert not self.training
        assert torch.is_inference_mode_enabled()
        self.batch_sizes.append(len(images))
        return [self.detect(image[0] + self.bias) for image in images]

    def detect(self, gray):
        ys, xs = torch.nonzero(gray > 0.5, as_tuple=True)
        boxes = (
            torch.empty(0, 4)
            if not len(ys)
            else torch.stack([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])[None].float()
        )
        prediction = {
            "boxes": boxes,
            "labels": torch.ones(len(boxes), dtype=torch.int64),
            "scores": torch.full((len(boxes),), 0.9),
        }
        return prediction | ({"masks": gray[None, None].repeat(len(boxes), 1, 1, 1)} if self.masks else {})


@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize("masks", [False, True])
def test_a_perfect_detector(batch_size, masks):
    detector = SquareDetector(masks).train()
    evaluation = evaluate_detector(detector, Squares(masks), batch_size=batch_size, device="cpu", progress=False)
    assert set(evaluation.metrics) == ({"boxes", "masks"} if masks else {"boxes"})
    assert all(metrics["ap"] == pytest.approx(1) for metrics in evaluation.metrics.values())
    assert sorted(evaluation.seconds_per_image) == [10, 20, 30, 40, 50, 60]
    assert all(seconds > 0 for seconds in evaluation.seconds_per_image.values())
    assert max(detector.batch_sizes) == batch_size
    assert detector.training, "the mode is restored"
    json.dumps(evaluation.detections)


def test_masks_are_measured_only_where_the_data_have_them():
    assert set(evaluate_detector(SquareDetector(masks=True), Squares(), progress=False).metrics) == {"boxes"}


def test_a_detector_that_finds_nothing():
    blind = SquareDetector(masks=True)
    nn.init.constant_(blind.bias, -1)
    evaluation = evaluate_detector(blind, Squares(masks=True), progress=False)
    assert evaluation.detections == []
    assert evaluation.metrics["boxes"]["ap"] == evaluation.metrics["masks"]["ap"] == 0


def test_the_mode_is_restored_after_an_error():
    class Broken(SquareDetector):
        def forward(self, images):
            raise RuntimeError("broken")

    broken = Broken().train()
    with pytest.raises(RuntimeError, match="broken"):
        detect_dataset(broken, Squares(), progress=False)
    assert broken.training


def test_results_are_in_coco_format():
    masks = torch.zeros(2, 1, 6, 9)
    masks[1, 0, 2:5, 3:7] = 0.51
    prediction = {
        "boxes": torch.tensor([[1.0, 2, 4, 8], [3, 2, 7, 5]]),
        "labels": torch.tensor([2, 1]),
        "scores": torch.tensor([0.5, 0.25]),
        "masks": masks,
    }
    first, second = to_coco_results([prediction], [7], {1: 3, 2: 5})
    assert first["bbox"] == [1, 2, 3, 6]
    assert (first["image_id"], first["category_id"], first["score"]) == (7, 5, 0.5)
    assert rle_to_mask(first["segmentation"]).sum() == 0
    assert np.array_equal(rle_to_mask(second["segmentation"]), masks[1, 0].round().numpy())


def test_mask_scores_are_included():
    prediction = {
        "boxes": torch.tensor([[1.0, 2.0, 5.0, 8.0]]),
        "labels": torch.tensor([1]),
        "scores": torch.tensor([0.5]),
        "masks": torch.ones(1, 1, 10, 10),
        "mask_scores": torch.tensor([0.25]),
    }
    (result,) = to_coco_results([prediction], [7], {1: 3, 2: 5})
    assert (result["score"], result["mask_score"]) == (0.5, 0.25)
    assert (
        "mask_score"
        not in to_coco_results([{k: v for k, v in prediction.items() if k != "mask_scores"}], [7], {1: 3, 2: 5})[0]
    )
