"""Tiles against the whole map: equal wherever a small RoI reads, for every transfer, tile size, and position."""

import pytest
import torch
from torch import nn

from featlift.backbones import Backbone
from featlift.detectors.sparse_level import (
    DenseReader,
    SparseReader,
    TiledExtension,
    extension_receptive_radius,
    pool_p2x,
)
from featlift.interpolators import interpolator
from featlift.pyramids.efpn import ExtendedLevel
from featlift.pyramids.texture_transfers import FTT, texture_transfer

C = 6


class Extending(nn.Module):
    """Stage 2 of a ResNet and an extension, as the detector has them."""

    def __init__(self, transfer, upsampler=None, backbone="resnet10t"):
        super().__init__()
        self.backbone = Backbone(backbone)
        self.extension = ExtendedLevel(self.backbone.channels["c2"], C, transfer, upsampler)

    def forward(self, features):
        c2x = self.backbone.forward_unpooled(features["c1"])
        return self.extension(features["inner3"], features["inner2"], c2x)


def features(height=24, width=40, num_images=2):
    torch.manual_seed(3)
    shapes = {"inner3": (C, 1), "inner2": (C, 2), "c1": (64, 4)}
    return {name: torch.randn(num_images, c, k * height, k * width) for name, (c, k) in shapes.items()}


BOXES = [
    torch.tensor([[0.0, 0, 12, 9], [300, 180, 320, 192], [100.3, 60.2, 108, 75.9], [127.9, 20, 140, 33]]),
    torch.tensor([[250.0, 3, 250.5, 3.2]]),
]
TRANSFERS = {
    "ftt": lambda: FTT(C, hidden_channels=4),
    "ftt-paper": lambda: texture_transfer("ftt-paper", C),
    "espcn": lambda: texture_transfer("espcn", C),
    "nearest": lambda: texture_transfer("nearest", C),
    "bilinear inside": lambda: FTT(C, hidden_channels=4, upsampler=interpolator("bilinear", 4)),
    "carafe": lambda: texture_transfer("carafe", C),
}


@pytest.mark.parametrize("tile", [1, 3, 8])
@pytest.mark.parametrize("name", TRANSFERS)
def test_tiles_are_the_whole_map_where_it_is_read(name, tile):
    torch.manual_seed(0)
    extending, maps = Extending(TRANSFERS[name]()).eval(), features()
    with torch.no_grad():
        expected, p2x = DenseReader(extending)(maps, BOXES), SparseReader(extending, tile, batch_size=3)(maps, BOXES)
    assert p2x.shape == (5, C, 7, 7)
    torch.testing.assert_close(p2x, expected, rtol=1e-4, atol=1e-5)


def test_other_upsamplers_and_backbones():
    torch.manual_seed(0)
    extending = Extending(FTT(C, hidden_channels=4), interpolator("bicubic", C), "resnet26").eval()
    maps = features()
    with torch.no_grad():
        torch.testing.assert_close(
            SparseReader(extending, 2)(maps, BOXES), DenseReader(extending)(maps, BOXES), rtol=1e-4, atol=1e-5
        )


def test_less_is_computed():
    extending, maps = Extending(texture_transfer("nearest", C)).eval(), features()
    cells = []
    extending.backbone.network["layer1"].register_forward_hook(
        lambda _, x, y: cells.append(y.shape[0] * y[0, 0].numel())
    )
    reader = SparseReader(extending, 2)
    reader.tile_margin(maps)
    cells.clear()
    p2x = reader.compute_p2x(maps, [BOXES[0][:1], BOXES[1]])
    assert sum(cells) < maps["c1"][:, 0].numel() / 4
    assert (p2x == 0).all(dim=1).float().mean() > 0.8


@pytest.mark.parametrize("count", [0, 400])
def test_none_or_too_many_tiles_are_the_whole_map(count):
    torch.manual_seed(0)
    extending, maps = Extending(texture_transfer("nearest", C)).eval(), features()
    corners = torch.rand(count, 2) * torch.tensor([300.0, 170.0])
    boxes = [torch.cat((corners, corners + 10), dim=1)] * 2
    assert torch.equal(SparseReader(extending, 2).compute_p2x(maps, boxes), extending(maps)["p2x"])
    assert SparseReader(extending)(maps, boxes).shape == (2 * count, C, 7, 7)


def test_reach_by_counting():
    """Nearest: two 3x3 in stage 2 and one after, 3 cells of stride 2 (1 of 8). FTT: see the sum."""
    assert extension_receptive_radius(Extending(texture_transfer("nearest", C)).eval(), features()) == 1
    fine = 1 + 2 * 2 + 2  # texture head, two blocks, tail, in cells of stride 4, below the 3x3 of p2x
    coarse = 1 + 2 + 1  # content head, block, sub-pixel, in cells of stride 8
    cells = coarse + -(-(1 + 2 * fine) // 4)
    assert extension_receptive_radius(Extending(FTT(C, hidden_channels=4)).eval(), features()) == cells == 8


def test_a_layer_that_sees_the_whole_map_is_refused():
    extending = Extending(FTT(C, hidden_channels=4, upsampler=interpolator("nearest-5conv", 4))).train()
    with pytest.raises(ValueError, match="no finite receptive field"):
        extension_receptive_radius(extending, features())


def test_reading_is_exact_on_a_slope():
    """On a map that counts its cells, RoIAlign reads the box's place in cells of stride 2."""
    x = torch.arange(64.0).expand(1, 1, 32, 64)
    pooled = pool_p2x(x, [torch.tensor([[20.0, 8, 34, 22]])])
    torch.testing.assert_close(pooled[0, 0, 0], 10 + torch.arange(7) + 0.5)


@pytest.mark.parametrize(("transfer", "tile"), [*((transfer, 7) for transfer in TRANSFERS), ("ftt", 4), ("ftt", 100)])
def test_tiles_have_the_values_and_the_gradients_of_the_whole(transfer, tile):
    extending, maps = Extending(TRANSFERS[transfer]()).eval(), features(9, 13)
    answers = []
    for extend in (extending, TiledExtension(extending, tile)):
        extending.zero_grad()
        p2x = extend(maps)
        sum((x * torch.linspace(-1, 1, x.shape[-1])).sum() for x in p2x.values()).backward()
        answers.append((p2x, {name: p.grad.clone() for name, p in extending.extension.named_parameters()}))
    (whole, gradients), (tiled, again) = answers
    for level in whole:
        torch.testing.assert_close(tiled[level], whole[level], rtol=1e-4, atol=1e-4)
    for name, gradient in gradients.items():
        torch.testing.assert_close(again[name], gradient, rtol=1e-3, atol=1e-3 * float(gradient.abs().max()) + 1e-6)


def test_tiles_keep_less_for_the_backward_pass():
    """Bytes that autograd saves: with tiles only the inputs of the windows, which are views of existing tensors."""
    extending, maps = Extending(FTT(C, hidden_channels=16)).eval(), features()

    def saved_bytes(extend):
        places = set()

        def pack(x):
            places.add((x.untyped_storage().data_ptr(), x.untyped_storage().nbytes()))
            return x

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            p2x = extend(maps)
        assert all(x.requires_grad for x in p2x.values())
        return sum(size for _, size in places)

    assert saved_bytes(TiledExtension(extending, 8)) < 0.3 * saved_bytes(extending)
