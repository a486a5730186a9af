import copy

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models.detection import (
    fasterrcnn_mobilenet_v3_large_320_fpn,
    maskrcnn_resnet50_fpn,
)

from featlift import detectors
from featlift.backbones import Backbone
from featlift.detectors.feature_extraction import (
    FeatureExtractor,
    detector_feature_extractor,
    extract_features,
    record_calls,
    resolve_layer,
)
from featlift.interpolators import build_interpolators
from featlift.resolution import frozen_copy


def small_network():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 4, 3, padding=1),
        nn.Conv2d(4, 2, 1),
    )


def test_features_are_the_layer_outputs():
    net, x = small_network().eval(), torch.rand(1, 3, 6, 6)
    features = extract_features(net, ["0", "3"], x)
    torch.testing.assert_close(features["3"], net[:4](x))
    assert list(features) == ["0", "3"]


def test_the_forward_pass_stops_early():
    net = small_network()
    net[4] = nn.Conv2d(99, 1, 1)  # would fail if it ran
    assert extract_features(net, ["3"], torch.rand(1, 3, 6, 6))["3"].shape == (1, 4, 6, 6)
    assert not any(module._forward_hooks for module in net.modules())


def test_inplace_layers_do_not_overwrite_captured_maps():
    net, x = small_network().eval(), torch.rand(1, 3, 6, 6)
    extractor = FeatureExtractor(net, ["1", "3"], (0, 0, 0), (1, 1, 1))
    torch.testing.assert_close(extractor(x)["1"], net[:2](x))
    assert extractor(x)["1"].min() < 0


def test_gradient_reaches_the_image_only():
    net = small_network().train()
    extractor = frozen_copy(FeatureExtractor(net, ["3"]))
    extractor.train()
    before = copy.deepcopy(extractor.state_dict())
    image = torch.rand(2, 3, 6, 6, requires_grad=True)
    extractor(image)["3"].square().sum().backward()
    assert image.grad is not None
    assert image.grad.abs().sum() > 0
    assert all(p.grad is None for p in extractor.parameters())
    assert all(value.equal(before[name]) for name, value in extractor.state_dict().items())
    assert net.training, "the caller's network is not changed"


def test_normalizes_by_itself():
    x = torch.rand(1, 3, 4, 4)
    features = FeatureExtractor(nn.Sequential(nn.Identity()), ["0"], (0.5, 0.4, 0.3), (0.1, 0.2, 0.25))(x)["0"]
    for channel, (mean, std) in enumerate([(0.5, 0.1), (0.4, 0.2), (0.3, 0.25)]):
        torch.testing.assert_close(features[:, channel], (x[:, channel] - mean) / std)


def test_resnet_c4_is_layer3():
    body = torchvision.models.resnet50(weights=None).eval()
    extractor, x = FeatureExtractor(body, ["layer3"], (0, 0, 0), (1, 1, 1)), torch.rand(1, 3, 64, 64)
    stem = body.maxpool(body.relu(body.bn1(body.conv1(x))))
    expected = body.layer3(body.layer2(body.layer1(stem)))
    assert extractor(x)["layer3"].shape == (1, 1024, 4, 4)
    torch.testing.assert_close(extractor(x)["layer3"], expected)
    layers = [body.conv1, body.bn1, body.layer1, body.layer2, body.layer3]
    assert sum(p.numel() for layer in layers for p in layer.parameters()) == 8_543_296


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


def test_levels_of_a_featlift_extractor():
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
    ("layer", "message"),
    [
        ("head.7", "no module"),
        ("p5", "the maps p2"),
        ("unused", "did not run"),
        ("used.c4", "a Tensor"),
        ("count", "the maps p2"),
    ],
)
def test_invalid_layers(layer, message):
    with pytest.raises(ValueError, match=message):
        extract_features(Silent(), [layer], torch.rand(1, 3, 4, 4))


def test_calls_are_recorded_in_order_and_no_hook_stays():
    first, second = nn.Conv2d(1, 2, 1), nn.Conv2d(2, 1, 1)
    x = torch.rand(1, 1, 3, 3)
    with record_calls([second, first]) as calls:
        y = second(first(x))
    second(first(x))
    assert [module for module, _, _ in calls] == [first, second]
    assert calls[0][1][0] is x
    assert calls[1][2] is y


def test_hooks_are_removed_after_an_error():
    layer = nn.Conv2d(1, 2, 1)
    with pytest.raises(RuntimeError), record_calls([layer]):
        layer(torch.rand(1, 5, 3, 3))
    assert not layer._forward_hooks


def featlift_detector(name="faster-rcnn"):
    torch.manual_seed(0)
    backbone = Backbone("test_resnet", detectors.backbone_levels(name), "batch", False, None, 0)
    interpolators = build_interpolators("nearest", 16, len(detectors.backbone_levels(name)) - 1)
    options = {"fc_dim": 32, "num_proposals": 50} if name == "faster-rcnn" else {}
    return detectors.detector(name, detectors.extractor(name, backbone, interpolators, 16), 3, **options)


def test_layers_by_the_papers_names():
    images = torch.rand(1, 3, 64, 96)
    detector = featlift_detector().eval()
    maps = detector_feature_extractor(detector, ["c4", "p3"])(images)
    torch.testing.assert_close(maps["backbone.c4"], detector.backbone.backbone(images)["c4"])
    torch.testing.assert_close(maps["p3"], detector.backbone(images)["p3"])


def test_layers_of_torchvisions_resnet():
    detector = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None).eval()
    images = torch.rand(1, 3, 64, 64)
    maps = detector_feature_extractor(detector, ["c4", "p3"])(images)
    assert maps["body.layer3"].shape == (1, 1024, 4, 4)
    assert maps["1"].shape == (1, 256, 8, 8)
    normalized = torch.stack([detector.transform.normalize(image) for image in images])
    torch.testing.assert_close(maps["1"], detector.backbone(normalized)["1"])


def test_layers_of_classifiers():
    with torch.device("meta"):
        assert resolve_layer(torchvision.models.resnet18(weights=None), "c4") == "layer3"
        assert resolve_layer(torchvision.models.vgg19(weights=None), "features.34") == "features.34"
