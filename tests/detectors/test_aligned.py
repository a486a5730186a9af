import pytest
import torch
from torch import nn
from torchvision.ops import roi_align

from featlift.detectors.aligned import AlignedRoIAlign, exact_anchors
from featlift.detectors.config import DetectorConfig, build_detector, quick_detector_config
from featlift.detectors.rcnn import PyramidRoIAlign


def test_pooling_is_roi_align_with_half_pixels_on_the_level_of_each_roi():
    torch.manual_seed(0)
    maps = {"p2": torch.randn(2, 3, 64, 64), "p3": torch.randn(2, 3, 32, 32)}
    boxes = [torch.tensor([[3.0, 4.0, 40.0, 50.0], [0.0, 0.0, 200.0, 180.0]]), torch.tensor([[10.0, 20.0, 30.0, 40.0]])]
    pooled = AlignedRoIAlign(PyramidRoIAlign(["p2", "p3"], 7))(maps, boxes, [(256, 256)] * 2)
    rows = [("p2", 4, 0, boxes[0][0]), ("p3", 8, 0, boxes[0][1]), ("p2", 4, 1, boxes[1][0])]  # 190 px are of p3
    for row, (level, stride, image, box) in zip(pooled, rows, strict=True):
        expected = roi_align(maps[level][image : image + 1], [box[None]], 7, 1 / stride, 2, aligned=True)[0]
        torch.testing.assert_close(row, expected)
    ramp = torch.arange(16.0).expand(1, 1, 16, 16)  # the value of a pixel center x + 0.5 is x
    center = AlignedRoIAlign(PyramidRoIAlign(["p2"], 1))(
        {"p2": ramp}, [torch.tensor([[16.0, 16.0, 32.0, 32.0]])], [(64, 64)]
    )
    assert center.item() == pytest.approx((16 + 32) / 2 / 4 - 0.5)


def test_anchors_are_not_rounded():
    anchors = exact_anchors((32.0,), (0.5, 1.0, 2.0))
    torch.testing.assert_close((anchors[:, 2:] - anchors[:, :2]).prod(dim=1), torch.full((3,), 1024.0))
    torch.testing.assert_close(anchors[0], torch.tensor([-22.627417, -11.313708, 22.627417, 11.313708]))


def built(detector, **options):
    config = quick_detector_config()
    kept = {} if detector in ("retinanet", "fcos") else {"fc_dim": 16, "num_proposals": 10}
    return build_detector(
        DetectorConfig(
            **{**vars(config), "detector": detector, "pyramid_channels": 32, "detector_options": {**kept, **options}}
        ),
        3,
    )


@pytest.mark.parametrize("name", ["mask-rcnn", "cascade-mask-rcnn", "retinanet"])
def test_an_aligned_detector_trains_and_detects(name):
    torch.manual_seed(0)
    detector = built(name, aligned=True)
    assert not [m for m in detector.modules() if isinstance(m, PyramidRoIAlign)]
    target = {
        "boxes": torch.tensor([[8.0, 8.0, 40.0, 40.0]]),
        "labels": torch.tensor([1]),
        "masks": torch.ones(1, 64, 64).byte(),
    }
    losses = detector.train()([torch.rand(3, 64, 64)], [target])
    assert all(torch.isfinite(x) for x in losses.values())
    assert detector.eval()([torch.rand(3, 64, 64)])[0]["boxes"].shape[1] == 4


def test_a_detector_without_pooling_and_anchors_is_refused():
    with pytest.raises(TypeError, match="leave out aligned"):
        built("fcos", aligned=True)
    assert isinstance(built("fcos"), nn.Module)
