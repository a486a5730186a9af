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
    """Finds what is bright in the picture that its transform hands it: one box and one mask."""

    def __init__(self, test_size=None):
        super().__init__()
        self.transform = BatchTransform(torch.zeros(1, 3, 1, 1), test_size, 1)
        self.seen = []

    def forward(self, images):
        batch, _ = self.transform(list(images))
        self.seen.append(tuple(batch.image_sizes[0]))
        rows, columns = (batch.tensors[0, 0] > 0.5).nonzero().T
        box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        found = {
            "boxes": torch.tensor([[float(side) for side in box]]),
            "labels": torch.tensor([1]),
            "scores": torch.tensor([0.8]),
            "masks": torch.full((1, 1, 28, 28), 0.75),
        }
        sizes = [tuple(image.shape[-2:]) for image in images]
        return self.transform.postprocess([found], batch.image_sizes, sizes)


def picture(height=60, width=100):
    image = torch.zeros(3, height, width)
    image[:, 12:36, 60:90] = 1
    return image


@pytest.mark.parametrize("merge", ["nms", "soft-nms"])
@pytest.mark.parametrize("test_size", [None, (120, 300)])
def test_views_become_one_answer_in_the_pixels_of_the_picture(merge, test_size):
    model = Bright(test_size).eval()
    many = MultiScaleTTA(model, (0.5, 1.0, 2.0), hflip=True, merge=merge).eval()
    (found,) = many([picture()])
    best = found["boxes"][0]
    assert (best - torch.tensor([60.0, 12.0, 90.0, 36.0])).abs().max() <= 1.5
    assert merge == "soft-nms" or len(found["boxes"]) == 1
    assert found["masks"].shape[1:] == (1, 60, 100)
    assert found["masks"][0, 0, 14:34, 62:88].min() > 0.5
    assert found["masks"][0, 0, :, :55].max() == 0  # a mirrored mask that was not turned back would lie here
    base = 60 if test_size is None else 120
    assert [size[0] for size in model.seen] == [base // 2] * 2 + [base] * 2 + [2 * base] * 2


def test_the_detector_is_as_it_was():
    model = Bright((90, 200)).eval()
    transform = model.transform
    MultiScaleTTA(model, (2.0,)).eval()([picture()])
    assert model.transform is transform
    assert transform.test_size == (90, 200)


def tiny(name):
    backbone = Backbone("resnet10t", backbone_levels(name), norm="batch")
    below = extractor(name, backbone, build_interpolators("nearest", 8, 3), 8)
    return detector(name, below, 2).eval()


@pytest.mark.parametrize("name", ["retinanet", "mask-rcnn"])
def test_one_look_is_the_detector_itself(name):
    torch.manual_seed(0)
    model = tiny(name)
    model.score_thresh = 0.0  # RetinaNet's first scores are 0.01
    images = [torch.rand(3, 64, 96), torch.rand(3, 50, 70)]
    with torch.no_grad():
        alone = [model([image])[0] for image in images]
        merged = MultiScaleTTA(model, (1.0,), hflip=False, iou_threshold=0.99, max_detections=1000).eval()(images)
    for one, other in zip(alone, merged, strict=True):
        assert one.keys() == other.keys()
        order = one["scores"].sort(descending=True, stable=True).indices
        assert torch.allclose(one["scores"][order], other["scores"])
        assert len(one["boxes"]) == len(other["boxes"]) > 0


def test_torchvisions_own_detectors_are_looked_through():
    model = fcos_resnet50_fpn(weights=None, weights_backbone=None, min_size=64, max_size=100).eval()
    other = scale_transform(model.transform, 1.5, torch.zeros(3, 40, 60))
    assert (other.min_size, other.max_size) == ((96,), 150)
    assert model.transform.min_size == (64,)


def test_mirrored_by_hand():
    found = {"boxes": torch.tensor([[1.0, 2.0, 4.0, 8.0]]), "masks": torch.eye(10)[None, None]}
    assert flip_detections(found, 10)["boxes"].tolist() == [[6.0, 2.0, 9.0, 8.0]]
    assert torch.equal(flip_detections(found, 10)["masks"][0, 0], torch.eye(10).flip(-1))


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
    found = crowd()
    boxes, labels = found["boxes"].tolist(), found["labels"].tolist()
    left = dict(enumerate(found["scores"].tolist()))
    expected = []
    while left and max(left.values()) >= 0.05:
        best = max(left, key=left.get)
        expected.append((best, left.pop(best)))
        for i in left:
            if labels[i] == labels[best]:
                left[i] *= math.exp(-(iou(boxes[i], boxes[best]) ** 2) / 0.5)
    keep, scores = soft_nms(found, 0.5)
    assert keep.tolist() == [i for i, _ in expected]
    assert scores.tolist() == pytest.approx([score for _, score in expected], rel=1e-4)


def test_hard_nms_leaves_other_classes_alone():
    found = {
        "boxes": torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 10]]),
        "scores": torch.tensor([0.5, 0.9, 0.7]),
        "labels": torch.tensor([1, 1, 2]),
    }
    keep, scores = hard_nms(found, 0.5)
    assert keep.tolist() == [1, 2]
    assert scores.tolist() == pytest.approx([0.9, 0.7])


def test_masks_are_weighted_means_of_their_class():
    found = crowd()
    keep = torch.tensor([3, 7])
    masks = average_masks(found, keep, 0.4)
    boxes, labels, scores = (found[name].tolist() for name in ("boxes", "labels", "scores"))
    for k, mask in zip(keep.tolist(), masks, strict=True):
        near = [i for i in range(30) if labels[i] == labels[k] and iou(boxes[i], boxes[k]) >= 0.4]
        whole = sum(scores[i] * found["masks"][i] for i in near) / sum(scores[i] for i in near)
        assert torch.allclose(mask, whole, atol=1e-5)


def test_a_picture_without_objects():
    class Nothing(Bright):
        def forward(self, images):
            return [
                {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long), "scores": torch.zeros(0)}
                for _ in images
            ]

    for merge in ("nms", "soft-nms"):
        (found,) = MultiScaleTTA(Nothing().eval(), merge=merge).eval()([picture()])
        assert found["boxes"].shape == (0, 4)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"merge": "mean"}, "choose one of nms, soft-nms"),
        ({"scales": ()}, "at least one"),
        ({"scales": (0,)}, "above 0"),
    ],
)
def test_errors_teach(options, told):
    with pytest.raises(ValueError, match=told):
        MultiScaleTTA(Bright(), **options)


def test_training_is_refused():
    with pytest.raises(RuntimeError, match="eval"):
        MultiScaleTTA(Bright())([picture()])
