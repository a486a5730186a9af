import copy

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn

from featlift.detectors.feature_extraction import FeatureExtractor, extract_features
from featlift.resolution import frozen_copy


def trunk():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 4, 3, padding=1),
        nn.Conv2d(4, 2, 1),
    )


def test_hears_what_the_layers_say():
    net, x = trunk().eval(), torch.rand(1, 3, 6, 6)
    heard = extract_features(net, ["0", "3"], x)
    torch.testing.assert_close(heard["3"], net[:4](x))
    assert list(heard) == ["0", "3"]


def test_stops_when_it_has_heard_enough():
    net = trunk()
    net[4] = nn.Conv2d(99, 1, 1)  # would fail if it ran
    assert extract_features(net, ["3"], torch.rand(1, 3, 6, 6))["3"].shape == (1, 4, 6, 6)
    assert not any(module._forward_hooks for module in net.modules())


def test_inplace_layers_do_not_overwrite_what_was_heard():
    net, x = trunk().eval(), torch.rand(1, 3, 6, 6)
    tap = FeatureExtractor(net, ["1", "3"], (0, 0, 0), (1, 1, 1))
    torch.testing.assert_close(tap(x)["1"], net[:2](x))
    assert tap(x)["1"].min() < 0


def test_gradient_reaches_the_picture_and_nothing_else_moves():
    net = trunk().train()
    tap = frozen_copy(FeatureExtractor(net, ["3"]))
    tap.train()
    before = copy.deepcopy(tap.state_dict())
    picture = torch.rand(2, 3, 6, 6, requires_grad=True)
    tap(picture)["3"].square().sum().backward()
    assert picture.grad is not None
    assert picture.grad.abs().sum() > 0
    assert all(p.grad is None for p in tap.parameters())
    assert all(value.equal(before[name]) for name, value in tap.state_dict().items())
    assert net.training, "the caller's trunk is not touched"


def test_normalizes_by_itself():
    x = torch.rand(1, 3, 4, 4)
    heard = FeatureExtractor(nn.Sequential(nn.Identity()), ["0"], (0.5, 0.4, 0.3), (0.1, 0.2, 0.25))(x)["0"]
    for channel, (mean, std) in enumerate([(0.5, 0.1), (0.4, 0.2), (0.3, 0.25)]):
        torch.testing.assert_close(heard[:, channel], (x[:, channel] - mean) / std)


def test_resnet_c4_is_layer3():
    body = torchvision.models.resnet50(weights=None).eval()
    tap, x = FeatureExtractor(body, ["layer3"], (0, 0, 0), (1, 1, 1)), torch.rand(1, 3, 64, 64)
    stem = body.maxpool(body.relu(body.bn1(body.conv1(x))))
    expected = body.layer3(body.layer2(body.layer1(stem)))
    assert tap(x)["layer3"].shape == (1, 1024, 4, 4)
    torch.testing.assert_close(tap(x)["layer3"], expected)
    trunk = [body.conv1, body.bn1, body.layer1, body.layer2, body.layer3]
    assert sum(p.numel() for part in trunk for p in part.parameters()) == 8_543_296


def test_vgg19_54_is_before_the_relu():
    with torch.device("meta"):
        features = torchvision.models.vgg19(weights=None).features
        convolutions = [name for name, m in features.named_children() if isinstance(m, nn.Conv2d)]
        assert convolutions[15] == "34", "conv5_4 is the sixteenth convolution"
        assert isinstance(features[35], nn.ReLU)
        assert extract_features(features, ["34"], torch.zeros(1, 3, 32, 32))["34"].shape == (1, 512, 2, 2)


def test_levels_of_a_pyramid():
    backbone = fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None).backbone.eval()
    maps, x = FeatureExtractor(backbone, [""])(torch.rand(1, 3, 64, 64)), torch.rand(1, 3, 64, 64)
    assert list(maps) == ["0", "1", "pool"]
    assert list(FeatureExtractor(backbone, ["fpn"])(x)) == ["fpn.0", "fpn.1", "fpn.pool"]
    chosen = FeatureExtractor(backbone, ["1", "body.0"])(x)
    assert list(chosen) == ["1", "body.0"]
    torch.testing.assert_close(chosen["1"], FeatureExtractor(backbone, [""])(x)["1"])


def test_timm_networks():
    timm = pytest.importorskip("timm")
    maps = FeatureExtractor(timm.create_model("test_resnet", pretrained=False), ["layer2"])(torch.rand(1, 3, 64, 64))
    assert maps["layer2"].dim() == 4


def test_levels_of_our_extractor():
    from featlift.detectors.extractor import Extractor

    class Backbone(nn.Module):
        mean = torch.zeros(1, 3, 1, 1)

        def forward(self, x):
            return {"c2": x[..., ::4, ::4], "c3": x[..., ::8, ::8]}

    class Pyramid(nn.Module):
        levels, out_channels = ("p2", "p3"), 3

        def forward(self, maps):
            return {"p2": maps["c2"] + 1, "p3": maps["c3"] + 1}

    x = torch.rand(1, 3, 16, 16)
    maps = FeatureExtractor(Extractor(Backbone(), Pyramid()), ["p3", "backbone.c2"], (0, 0, 0), (1, 1, 1))(x)
    torch.testing.assert_close(maps["p3"], x[..., ::8, ::8] + 1)
    torch.testing.assert_close(maps["backbone.c2"], x[..., ::4, ::4])


class Silent(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.unused = nn.Identity(), nn.Identity()

    def forward(self, x):
        return {"p2": self.used(x), "count": 3}


@pytest.mark.parametrize(
    ("layer", "says"),
    [
        ("head.7", "no module"),
        ("p5", "the maps p2"),
        ("unused", "did not run"),
        ("used.c4", "a Tensor"),
        ("count", "the maps p2"),
    ],
)
def test_wrong_layers_are_explained(layer, says):
    with pytest.raises(ValueError, match=says):
        extract_features(Silent(), [layer], torch.rand(1, 3, 4, 4))
