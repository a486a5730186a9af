"""FCOS's head against torchvision's, and its anchors against hand-computed numbers."""

import torch
from torchvision.models.detection.fcos import FCOSRegressionHead
from torchvision.models.detection.image_list import ImageList

from featlift.detectors.fcos_head import CellCenterAnchors, ScaledRegressionHead, fcos_head


def test_anchors_are_at_cell_centers():
    maps = [torch.zeros(1, 4, 2, 3), torch.zeros(1, 4, 1, 2)]
    (anchors,) = CellCenterAnchors(["p3", "p4"])(
        ImageList(torch.zeros(1, 3, 16, 24), [(16, 24)]), maps
    )  # p4 is rounded up
    centers = (anchors[:, :2] + anchors[:, 2:]) / 2
    assert centers.tolist() == [[4, 4], [12, 4], [20, 4], [4, 12], [12, 12], [20, 12], [8, 8], [24, 8]]
    assert (anchors[:, 2] - anchors[:, 0]).tolist() == [8] * 6 + [16] * 2


def test_with_scales_of_one_it_is_torchvisions():
    torch.manual_seed(0)
    head, reference = ScaledRegressionHead(64, num_levels=2), FCOSRegressionHead(64, 1)
    reference.load_state_dict({k: v for k, v in head.state_dict().items() if k != "scales"})
    maps = [torch.randn(2, 64, 5, 3), torch.randn(2, 64, 2, 2)]
    for a, b in zip(head(maps), reference(maps), strict=True):
        torch.testing.assert_close(a, b)


def test_a_scale_multiplies_the_distances_of_its_level():
    head = ScaledRegressionHead(32, num_levels=2)
    maps = [torch.randn(1, 32, 4, 4), torch.randn(1, 32, 2, 2)]
    before = head(maps)[0]
    head.scales.data[1] = 3.0
    after = head(maps)[0]
    torch.testing.assert_close(after[:, :16], before[:, :16])
    torch.testing.assert_close(after[:, 16:], 3 * before[:, 16:])


def test_count():
    """Two towers of four convolutions with group norm, three ends, and a scale for each of five levels (spec §8)."""
    head = fcos_head(256, 5, 80)
    towers = 8 * (256 * 256 * 9 + 256 + 512)
    assert sum(p.numel() for p in head.parameters()) == towers + (81 + 4 + 1) * 2305 + 5
