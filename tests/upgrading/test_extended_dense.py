"""RetinaNet and FCOS: the anchors of the level, and which networks belong to the family."""

import pytest
import torch
from torchvision.models import detection
from torchvision.models.detection.image_list import ImageList

from featlift.upgrading.extended_dense import DenseFamily, dense_level, dense_predictions

SMALL = {"weights": None, "weights_backbone": None, "num_classes": 3}


@pytest.fixture(scope="module", params=["retinanet_resnet50_fpn", "fcos_resnet50_fpn"])
def model(request):
    torch.manual_seed(0)
    return getattr(detection, request.param)(**SMALL).eval()


@torch.no_grad()
def test_anchors_are_those_of_the_enlarged_image_halved(model):
    maps = [torch.rand(1, 256, 128 // 2**level, 192 // 2**level) for level in (3, 4, 5, 6, 7)]
    images = ImageList(torch.zeros(1, 3, 128, 192), [(128, 192)])
    own_anchors = model.anchor_generator(images, maps)[0]
    level = dense_level(model, maps[0])
    boxes = dense_predictions(model, level).boxes[0]
    anchors = level.pop("anchors")[0]
    torch.testing.assert_close(anchors, own_anchors[: len(anchors)] / 2)
    own = model.head(maps)
    for name, values in level.items():
        torch.testing.assert_close(values, own[name][:, : len(anchors)])
    decode = model.box_coder.decode if "bbox_ctrness" in own else model.box_coder.decode_single
    own_boxes = decode(own["bbox_regression"][0, : len(anchors)], own_anchors[: len(anchors)])
    torch.testing.assert_close(boxes, own_boxes / 2, rtol=1e-4, atol=1e-3)


def test_two_stage_detectors_and_other_backbones_are_no_members(model):
    assert DenseFamily().matches(model)
    for other in ("fasterrcnn_resnet50_fpn", "ssdlite320_mobilenet_v3_large"):
        assert not DenseFamily().matches(getattr(detection, other)(**SMALL))
    image = torch.rand(1, 3, 4, 5)
    torch.testing.assert_close(DenseFamily().to_input(model, image)[0], model.transform.normalize(image[0]))
