import pytest
import torch
import torch.nn.functional as nnf

from featlift.backbones.detectron2 import SwinBackbone, detectron2_backbone


def test_strides_are_in_the_1x1_convolutions_and_sizes_are_kept():
    backbone = detectron2_backbone("resnet50").eval()
    for stage in ("layer2", "layer3", "layer4"):
        block = backbone.network.get_submodule(stage)[0]
        assert (block.conv1.stride, block.conv2.stride) == ((2, 2), (1, 1))
    with torch.no_grad():
        sizes = {level: tuple(x.shape[-2:]) for level, x in backbone(torch.rand(1, 3, 64, 96)).items()}
    assert sizes == {"c2": (16, 24), "c3": (8, 12), "c4": (4, 6), "c5": (2, 3)}
    assert backbone.mean.flatten().tolist() == pytest.approx([123.675 / 255, 116.28 / 255, 103.53 / 255])


def test_other_networks_are_refused():
    with pytest.raises(ValueError, match="use timm's layout"):
        detectron2_backbone("convnext_tiny")


def test_swin_shifts_padded_windows():
    """One block of the last kind, literally: a map of 8x8 cells is padded to 14x14 (zeros after the norm), then rolled by three cells."""
    torch.manual_seed(0)
    backbone = SwinBackbone("swin_tiny_patch4_window7_224").eval()
    block = backbone.network[7][1]
    with torch.no_grad():
        block.attn.relative_position_bias_table.normal_()
    C, heads, x = 768, 24, torch.randn(1, 8, 8, 768)
    y = torch.zeros(1, 14, 14, C)
    y[:, :8, :8] = nnf.layer_norm(x, (C,), block.norm1.weight, block.norm1.bias)
    y = y.roll((-3, -3), (1, 2))
    region = torch.zeros(14, 14)
    for row, rows in enumerate((slice(0, 7), slice(7, 11), slice(11, 14))):
        for column, columns in enumerate((slice(0, 7), slice(7, 11), slice(11, 14))):
            region[rows, columns] = 3 * row + column
    cells = [(i, j) for i in range(7) for j in range(7)]
    offsets = torch.tensor([[13 * (a - c + 6) + (b - d + 6) for c, d in cells] for a, b in cells])
    bias = block.attn.relative_position_bias_table[offsets].permute(2, 0, 1)
    out = torch.zeros_like(y)
    for top in (0, 7):
        for left in (0, 7):
            window = y[0, top : top + 7, left : left + 7].reshape(49, C)
            area = region[top : top + 7, left : left + 7].flatten()
            mask = torch.where(area[:, None] == area, 0.0, -100.0)
            q, k, v = block.attn.qkv(window).reshape(49, 3, heads, C // heads).permute(1, 2, 0, 3)
            attention = (q @ k.transpose(1, 2) / (C // heads) ** 0.5 + bias + mask).softmax(-1)
            mixed = block.attn.proj((attention @ v).transpose(0, 1).reshape(49, C))
            out[0, top : top + 7, left : left + 7] = mixed.reshape(7, 7, C)
    z = x + out.roll((3, 3), (1, 2))[:, :8, :8]
    z = z + block.mlp(nnf.layer_norm(z, (C,), block.norm2.weight, block.norm2.bias))
    with torch.inference_mode():
        torch.testing.assert_close(block(x), z, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_swin_maps_of_any_size():
    backbone = SwinBackbone("swin_tiny_patch4_window7_224", ("c3", "c5")).eval()
    maps = backbone(torch.rand(1, 3, 45, 70))
    assert {level: tuple(x.shape) for level, x in maps.items()} == {"c3": (1, 192, 6, 9), "c5": (1, 768, 2, 3)}
    positions = maps["c5"].permute(0, 2, 3, 1)
    torch.testing.assert_close(positions.mean(-1), torch.zeros(1, 2, 3), atol=1e-5, rtol=0)


def test_other_swins_are_refused():
    with pytest.raises(ValueError, match="no Swin of Detectron2's layout; its names are swin_tiny"):
        detectron2_backbone("swin_s3_tiny_224")
