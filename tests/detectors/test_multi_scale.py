import math

import pytest
import torch
from torch import nn
from torchvision.models.detection import fcos_resnet50_fpn

from featlift.backbones import Backbone
from featlift.detectors import backbone_levels, detector, extractor
from featlift.detectors.batch_transform import BatchTransform
from featlift.detectors.multi_scale import (
    MultiScaleTTA,
    average_masks,
    flip_detections,
    hard_nms,
    scale_transform,
    soft_nms,
)
from featlift.interpolators import build_interpolators


class Bright(nn.Module):
    """Detects the bright pixels of the transformed image: one box and one mask."""

    def __init__(self, test_size=None):
        super().__init__()
        self.transform = BatchTransform(torch.zeros(1, 3, 1, 1), test_size, 1)
        self.input_sizes = []

    def forward(self, images):
        batch, _ = self.transform(list(images))
        self.input_sizes.append(tuple(batch.image_sizes[0]))
        rows, columns = (batch.tensors[0, 0] > 0.5).nonzero().T
        box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        detections = {
            "boxes": torch.tensor([[float(side) for side in box]]),
            "labels": torch.tensor([1]),
            "scores": torch.tensor([0.8]),
            "masks": torch.full((1, 1, 28, 28), 0.75),
        }
        sizes = [tuple(image.shape[-2:]) for image in images]
        return self.transform.postprocess([detections], batch.image_sizes, sizes)


def make_image(height=60, width=100):
    image = torch.zeros(3, height, width)
    image[:, 12:36, 60:90] = 1
    return image


@pytest.mark.parametrize("merge", ["nms", "soft-nms"])
@pytest.mark.parametrize("test_size", [None, (120, 300)])
def test_views_are_merged_in_image_pixels(merge, test_size):
    model = Bright(test_size).eval()
    many = MultiScaleTTA(model, (0.5, 1.0, 2.0), hflip=True, merge=merge).eval()
    (detections,) = many([make_image()])
    best = detections["boxes"][0]
    assert (best - torch.tensor([60.0, 12.0, 90.0, 36.0])).abs().max() <= 1.5
    assert merge == "soft-nms" or len(detections["boxes"]) == 1
    assert detections["masks"].shape[1:] == (1, 60, 100)
    assert detections["masks"][0, 0, 14:34, 62:88].min() > 0.5
    assert detections["masks"][0, 0, :, :55].max() == 0  # a mask that was not flipped back would be here
    base = 60 if test_size is None else 120
    assert [size[0] for size in model.input_sizes] == [base // 2] * 2 + [base] * 2 + [2 * base] * 2


def test_the_detector_is_as_it_was():
    model = Bright((90, 200)).eval()
    transform = model.transform
    MultiScaleTTA(model, (2.0,)).eval()([make_image()])
    assert model.transform is transform
    assert transform.test_size == (90, 200)


def tiny(name):
    backbone = Backbone("resnet10t", backbone_levels(name), norm="batch")
    below = extractor(name, backbone, build_interpolators("nearest", 8, 3), 8)
    return detector(name, below, 2).eval()


@pytest.mark.parametrize("name", ["retinanet", "mask-rcnn"])
def test_a_single_view_is_the_detector_itself(name):
    torch.manual_seed(0)
    model = tiny(name)
    model.score_thresh = 0.0  # RetinaNet's first scores are 0.01
    images = [torch.rand(3, 64, 96), torch.rand(3, 50, 70)]
    with torch.no_grad():
        alone = [model([image])[0] for image in images]
        merged = MultiScaleTTA(model, (1.0,), hflip=False, iou_threshold=0.99, max_detections=1000).eval()(images)
    for expected, actual in zip(alone, merged, strict=True):
        assert expected.keys() == actual.keys()
        order = expected["scores"].sort(descending=True, stable=True).indices
        assert torch.allclose(expected["scores"][order], actual["scores"])
        assert len(expected["boxes"]) == len(actual["boxes"]) > 0


def test_the_transform_of_a_torchvision_detector_is_scaled():
    model = fcos_resnet50_fpn(weights=None, weights_backbone=None, min_size=64, max_size=100).eval()
    other = scale_transform(model.transform, 1.5, torch.zeros(3, 40, 60))
    assert (other.min_size, other.max_size) == ((96,), 150)
    assert model.transform.min_size == (64,)


def test_flipped_by_hand():
    detections = {"boxes": torch.tensor([[1.0, 2.0, 4.0, 8.0]]), "masks": torch.eye(10)[None, None]}
    assert flip_detections(detections, 10)["boxes"].tolist() == [[6.0, 2.0, 9.0, 8.0]]
    assert torch.equal(flip_detections(detections, 10)["masks"][0, 0], torch.eye(10).flip(-1))


def crowd(n=30, seed=0):
    draw = torch.Generator().manual_seed(seed)
    corner, size = torch.rand(n, 2, generator=draw) * 40, 10 + torch.rand(n, 2, generator=draw) * 20
    return {
        "boxes": torch.cat([corner, corner + size], 1),
        "scores": torch.rand(n, generator=draw),
        "labels": torch.randint(1, 3, (n,), generator=draw),
        "masks": torch.rand(n, 1, 4, 4, generator=draw),
    }


def iou(a, b):
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(wide, 0) * max(high, 0)
    area = lambda x: (x[2] - x[0]) * (x[3] - x[1])  # noqa: E731
    return both / (area(a) + area(b) - both)


def test_soft_nms_as_a_literal_loop():
    detections = crowd()
    boxes, labels = detections["boxes"].tolist(), detections["labels"].tolist()
    left = dict(enumerate(detections["scores"].tolist()))
    expected = []
    while left and max(left.values()) >= 0.05:
        best = max(left, key=left.get)
        expected.append((best, left.pop(best)))
        for i in left:
            if labels[i] == labels[best]:
                left[i] *= math.exp(-(iou(boxes[i], boxes[best]) ** 2) / 0.5)
    keep, scores = soft_nms(detections, 0.5)
    assert keep.tolist() == [i for i, _ in expected]
    assert scores.tolist() == pytest.approx([score for _, score in expected], rel=1e-4)


def test_hard_nms_leaves_other_classes_alone():
    detections = {
        "boxes": torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 10]]),
        "scores": torch.tensor([0.5, 0.9, 0.7]),
        "labels": torch.tensor([1, 1, 2]),
    }
    keep, scores = hard_nms(detections, 0.5)
    assert keep.tolist() == [1, 2]
    assert scores.tolist() == pytest.approx([0.9, 0.7])


def test_masks_are_weighted_means_of_their_class():
    detections = crowd()
    keep = torch.tensor([3, 7])
    masks = average_masks(detections, keep, 0.4)
    boxes, labels, scores = (detections[name].tolist() for name in ("boxes", "labels", "scores"))
    for k, mask in zip(keep.tolist(), masks, strict=True):
        near = [i for i in range(30) if labels[i] == labels[k] and iou(boxes[i], boxes[k]) >= 0.4]
        whole = sum(scores[i] * detections["masks"][i] for i in near) / sum(scores[i] for i in near)
        assert torch.allclose(mask, whole, atol=1e-5)


def test_an_image_without_objects():
    class Nothing(Bright):
        def forward(self, images):
            return [
                {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long), "scores": torch.zeros(0)}
                for _ in images
            ]

    for merge in ("nms", "soft-nms"):
        (detections,) = MultiScaleTTA(Nothing().eval(), merge=merge).eval()([make_image()])
        assert detections["boxes"].shape == (0, 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"merge": "mean"}, "choose one of nms, soft-nms"),
        ({"scales": ()}, "at least one"),
        ({"scales": (0,)}, "above 0"),
    ],
)
def test_invalid_options(options, message):
    with pytest.raises(ValueError, match=message):
        MultiScaleTTA(Bright(), **options)


def test_training_is_refused():
    with pytest.raises(RuntimeError, match="eval"):
        MultiScaleTTA(Bright())([make_image()])
