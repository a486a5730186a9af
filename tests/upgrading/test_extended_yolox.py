"""The level of YOLOX against the network itself on the enlarged image."""

import pytest
import torch
import torch.nn.functional as nnf
from torch import nn

from featlift.upgrading import enable_level, upgrade
from featlift.upgrading.extended_family import enlarge
from featlift.upgrading.extended_yolox import YOLOXFamily, decode_yolox_boxes

IMAGE = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))


class TrueCoarseMap(nn.Module):
    """In place of the upsampler: the coarsest map of the network on the enlarged image."""

    def __init__(self, model, image):
        super().__init__()
        with torch.no_grad():
            family = YOLOXFamily()
            self.value = family.coarse_map(model, family.early_maps(model, enlarge(image)))

    def forward(self, x, guides, size):
        """``[B, C, h, w]`` → ``[B, C, 2h, 2w]``."""
        return self.value


@torch.no_grad()
def test_with_the_true_coarse_map_the_level_is_the_finest_level_of_the_enlarged_image(yolox):
    plain = yolox(IMAGE)
    large = yolox(nnf.interpolate(IMAGE, size=(128, 192), mode="bilinear"))[:, : 16 * 24]
    sizes = (large[..., 2:4] / 2).prod(-1).sqrt()
    upgrade(yolox, level="p3x", width=8)
    yolox.added_level = TrueCoarseMap(yolox, IMAGE)
    enable_level(yolox, sizes.median().item())
    rows = yolox(IMAGE)
    assert torch.equal(rows[:, : plain.shape[1]], plain)
    added = rows[:, plain.shape[1] :]
    torch.testing.assert_close(added[..., :4], large[..., :4] / 2)
    torch.testing.assert_close(added[..., 5:], large[..., 5:])
    is_small = added[..., 4] > 0
    torch.testing.assert_close(added[..., 4], large[..., 4] * is_small)
    assert 0 < is_small.sum() < is_small.numel()
    assert sizes[is_small].max() <= sizes.median() <= sizes[~is_small].min() + 1e-3


def test_decoding_one_cell_by_hand():
    regression = torch.zeros(1, 4, 2, 3)
    regression[0, :, 1, 2] = torch.tensor([0.5, -0.25, 0.0, 1.0])
    center, sides = (4 * 2.5, 4 * 0.75), (4.0, 4 * 2.718281828)
    expected = [center[0] - sides[0] / 2, center[1] - sides[1] / 2, center[0] + sides[0] / 2, center[1] + sides[1] / 2]
    torch.testing.assert_close(decode_yolox_boxes(regression, 4)[0, 5], torch.tensor(expected))


def test_outputs_that_are_not_decoded_are_refused(yolox):
    upgrade(yolox, level="p3x", width=8)
    yolox.head.decode_in_inference = False
    yolox(IMAGE)
    enable_level(yolox)
    with pytest.raises(RuntimeError, match="decode_in_inference"):
        yolox(IMAGE)


def test_the_published_weights_expect_blue_green_red_up_to_255(yolox):
    image = torch.tensor([0.1, 0.2, 0.3])[None, :, None, None]
    assert YOLOXFamily().to_input(yolox, image).flatten().tolist() == pytest.approx([76.5, 51.0, 25.5])
