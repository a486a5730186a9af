import pytest
import torch

from featlift.backbones.detectron2 import detectron2_backbone


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
