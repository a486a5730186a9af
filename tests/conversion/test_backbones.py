"""Backbones: input of the published stem, positions of the strides, unsupported networks."""

import pytest
import torch
import torch.nn.functional as nnf
from torchvision.models import swin_t

from featlift.backbones import Backbone
from featlift.conversion import detectron2_resnest, detectron2_resnet, detectron2_swin
from featlift.conversion.backbones import backbone_rules
from featlift.conversion.rules import convert_state_dict, with_prefix

PREFIX = "backbone.bottom_up."


def filled(backbone, state):
    selected = {key: value for key, value in state.items() if key.startswith(PREFIX)}
    converted, _ = convert_state_dict(
        selected, with_prefix("", backbone_rules(backbone), r"backbone\.bottom_up\."), backbone
    )
    backbone.load_state_dict(converted, strict=False)
    return backbone.eval()


def convolved(x, state, name, **options):
    norm = [state[f"{PREFIX}{name}.norm.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
    return nnf.batch_norm(nnf.conv2d(x, state[f"{PREFIX}{name}.weight"], **options), *norm)


def test_stem_and_a_strided_block_on_bgr_in_0_to_255(official):
    """RGB in 0…1 gives the maps of the published stem and first block for BGR in 0…255 minus the published means."""
    state, image = official("mask_rcnn_r50_fpn_afi"), torch.rand(1, 3, 32, 32)
    backbone = filled(detectron2_resnet(), state)
    network = backbone.network
    mean = torch.tensor([103.53, 116.28, 123.675]).view(1, 3, 1, 1)
    expected = convolved(255 * image.flip(1) - mean, state, "stem.conv1", stride=2, padding=3)
    stem = network.bn1(network.conv1((image - backbone.mean) / backbone.std))
    torch.testing.assert_close(stem, expected, atol=1e-3, rtol=1e-3)
    x = torch.randn(1, 256, 8, 8)
    y = convolved(x, state, "res3.0.conv1", stride=2).relu()
    y = convolved(convolved(y, state, "res3.0.conv2", padding=1).relu(), state, "res3.0.conv3")
    y = (y + convolved(x, state, "res3.0.shortcut", stride=2)).relu()
    torch.testing.assert_close(network.layer2[0](x), y, atol=1e-4, rtol=1e-4)


def test_resnest(official):
    state = official("cascade_mask_s101_fpn_afi")
    backbone = filled(detectron2_resnest(), state)
    last = backbone.network.layer4[2].conv2.fc2.bias
    torch.testing.assert_close(last.data, state[f"{PREFIX}res5.2.conv2.fc2.bias"])
    torch.testing.assert_close(backbone.network.conv1[4].running_var, state[f"{PREFIX}stem.conv1_2.norm.running_var"])


def swin_layout(reference):
    """The weights of torchvision's Swin under the published names, and those of the norms of c3 to c5."""
    parts = {"mlp.0": "mlp.fc1", "mlp.3": "mlp.fc2"}
    state = {}
    for key, value in reference.state_dict().items():
        numbers = key.split(".")
        if key.startswith("features.0."):
            name = {"0": "proj", "2": "norm"}[numbers[2]]
            state[f"patch_embed.{name}.{numbers[3]}"] = value
        elif key.startswith("features.") and int(numbers[1]) % 2:
            rest = ".".join(numbers[3:])
            for old, new in parts.items():
                rest = rest.replace(old, new)
            shape = (49, 49) if rest.endswith("position_index") else value.shape
            state[f"layers.{int(numbers[1]) // 2}.blocks.{numbers[2]}.{rest}"] = value.reshape(shape)
        elif key.startswith("features."):
            state[f"layers.{int(numbers[1]) // 2 - 1}.downsample.{'.'.join(numbers[2:])}"] = value
    return {f"{PREFIX}{key}": value for key, value in state.items()}


def test_swin_normalizes_the_maps_of_torchvisions():
    """Against torchvision's Swin-T under the published names."""
    torch.manual_seed(0)
    reference = swin_t().eval()
    state = swin_layout(reference)
    norms = {level: torch.rand(2, 96 * 2 ** (level - 2)) for level in (3, 4, 5)}
    for level, values in norms.items():
        state |= {f"{PREFIX}norm{level - 2}.{part}": x for part, x in zip(("weight", "bias"), values, strict=True)}
    backbone = filled(detectron2_swin("swin_tiny_patch4_window7_224"), state)
    image = torch.rand(1, 3, 128, 256)
    with torch.inference_mode():
        maps, x = backbone(image), (image - backbone.mean) / backbone.std
        for number, layer in enumerate(reference.features):
            x = layer(x)
            if number in (3, 5, 7):
                level = number // 2 + 2
                expected = nnf.layer_norm(x, x.shape[-1:], *norms[level]).permute(0, 3, 1, 2)
                torch.testing.assert_close(maps[f"c{level}"], expected)
    assert (255 * backbone.std).flatten().tolist() == pytest.approx([58.393, 57.12, 57.375])


def test_unsupported_networks():
    with pytest.raises(ValueError, match=r"detectron2_resnet\(\)"):
        backbone_rules(Backbone("resnet26"))
    with pytest.raises(ValueError, match="from timm"):
        backbone_rules(Backbone("test_convnext"))
