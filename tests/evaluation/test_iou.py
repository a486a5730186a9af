"""IoU of boxes and masks, against torchvision and by hand."""

import numpy as np
import pytest
import torch
from torchvision.ops import box_convert, box_iou

from featlift.data.masks import mask_to_rle
from featlift.evaluation.iou import box_iou_xywh, detection_iou

TRUTH = {"images": [{"id": 3, "height": 20, "width": 30}]}


def test_boxes_as_torchvision():
    boxes = torch.rand(12, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.1
    corners = box_convert(boxes, "xywh", "xyxy")
    ours = [[box_iou_xywh(a, b) for b in boxes.tolist()] for a in boxes.tolist()]
    torch.testing.assert_close(torch.tensor(ours, dtype=torch.float64), box_iou(corners, corners))


def test_boxes_that_touch_or_are_empty():
    assert box_iou_xywh([0, 0, 2, 2], [2, 0, 2, 2]) == 0
    assert box_iou_xywh([0, 0, 0, 0], [0, 0, 0, 0]) == 0


def test_boxes_and_masks_of_a_detection():
    mask = np.zeros((20, 30), np.uint8)
    mask[5:10, 5:10] = 1
    annotation = {"image_id": 3, "bbox": [5, 5, 10, 5], "segmentation": [[5, 5, 15, 5, 15, 10, 5, 10]]}
    detection = {"bbox": [5, 5, 5, 5], "segmentation": mask_to_rle(mask)}
    assert detection_iou(TRUTH, annotation, detection) == pytest.approx(0.5)
    assert detection_iou(TRUTH, annotation, detection, "masks") == pytest.approx(0.5)
