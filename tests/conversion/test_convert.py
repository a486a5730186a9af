"""Round trips: random weights in each published layout into FeatLift modules, and back by an independent rule for every key."""

import pickle
import re

import pytest
import torch
import torch.nn.functional as nnf
from torch import nn

from featlift.conversion import detectron2_resnest, detectron2_resnet, import_weights
from featlift.conversion.convert import key_rules
from featlift.conversion.detector_files import published_detector_config
from featlift.conversion.rules import convert_state_dict
from featlift.detectors import backbone_levels, detector, extractor
from featlift.detectors.config import build_backbone, build_on_backbone
from featlift.interpolators import AFI, interpolator

PARAMETER = ("weight", "bias")


def built(name, backbone, pyramid="fpn", interpolation="afi", classes=80, norm=None, **options):
    neck = extractor(name, backbone, [interpolator(interpolation, 256)], 256, pyramid, norm)
    return detector(name, neck, classes, **options)


def test_generator_inside_a_detector(official):
    state = official("mask_rcnn_r50_fpn_afi")
    module = AFI(256)
    report = import_weights(module, state)
    assert len(report.loaded_keys) == 23
    assert len(report.skipped_keys) == len(state) - 23
    torch.testing.assert_close(module.last.bias.data, state["backbone.srf_module.Generators.0.4.0.bias"])


def inverted(name, key, value):
    """The loaded tensor as it was in the file: rows and channels in the published order."""
    if "cls_score" in key:
        return torch.cat([value[1:], value[:1]])
    if any(part in name for part in ("mask_fcn_logits", "mask_iou.last", "classification_head.cls_logits")):
        return value[1:]
    if name.startswith("roi_heads.box_predictor.bbox_pred"):
        return value[4:]
    return value[:, [2, 1, 0]] if key.endswith("stem.conv1.weight") else value


LAYOUTS = {
    "mask_rcnn_r50_fpn_afi": ("mask-rcnn", "fpn", 335),
    "mask_rcnn_r50_pafpn_afi": ("mask-rcnn", "pafpn", 341),
    "cascade_mask_s101_fpn_afi": ("cascade-mask-rcnn", "fpn", 1117),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_tensor_of_a_detector_comes_back(official, layout):
    name, pyramid, count = LAYOUTS[layout]
    state = official(layout)
    assert len(state) == count
    if "s101" in layout:
        options = {"norm": "batch", "num_convs": 4}
        neck = extractor(name, detectron2_resnest(), [AFI(256)], 256, pyramid, nn.BatchNorm2d)
        network = detector(name, neck, 80, **options)
    else:
        network = built(name, detectron2_resnet(), pyramid)
    report = import_weights(network, state)
    assert len(report.skipped_keys) == 5  # the anchors
    assert len(report.notes) == 2  # RoIAlign and rounded anchors
    assert set(report.loaded_keys.values()) | set(report.skipped_keys) == set(state)
    after = network.state_dict()
    for key, source in report.loaded_keys.items():
        assert torch.equal(inverted(key, source, after[key]), state[source]), (key, source)
    assert not set(after) - set(report.loaded_keys)


def test_the_classifier_has_the_same_outputs_in_another_order(official):
    """Published logits have the background last, FeatLift's first; the boxes of class k are those of class k."""
    state = official("mask_rcnn_r50_fpn_afi")
    network = built("mask-rcnn", detectron2_resnet())
    import_weights(network, state)
    x, head = torch.randn(2, 1024), "roi_heads.box_predictor."
    logits = nnf.linear(x, *(state[f"{head}cls_score.{part}"] for part in PARAMETER))
    boxes = nnf.linear(x, *(state[f"{head}bbox_pred.{part}"] for part in PARAMETER)).reshape(2, 80, 4)
    own_logits, own_boxes = network.roi_heads.box_predictor(x)
    torch.testing.assert_close(own_logits[:, 0], logits[:, 80])
    torch.testing.assert_close(own_logits[:, 1:], logits[:, :80])
    torch.testing.assert_close(own_boxes.reshape(2, 81, 4)[:, 1:], boxes)


def small(name, pyramid="fpn", **options):
    """A detector of 3 classes on a ResNet-50."""
    levels = backbone_levels(name, pyramid)
    return built(name, detectron2_resnet(levels=levels), pyramid, "nearest", 3, **options)


def published_shapes(name):
    """The published keys of a detector of 3 classes and their shapes, as the spec lists them (§7), without the backbone."""
    k, c = 3, 256
    convolution = lambda key, out, inside, side=3: {f"{key}.weight": (out, inside, side, side), f"{key}.bias": (out,)}  # noqa: E731
    linear = lambda key, out, inside: {f"{key}.weight": (out, inside), f"{key}.bias": (out,)}  # noqa: E731
    shapes = {}
    for level, channels in (("3", 512), ("4", 1024), ("5", 2048)):
        shapes |= convolution(f"backbone.fpn_lateral{level}", c, channels, 1) | convolution(
            f"backbone.fpn_output{level}", c, c
        )
    shapes |= convolution("backbone.top_block.p6", c, 2048 if name == "retinanet" else c)
    shapes |= convolution("backbone.top_block.p7", c, c)
    if name == "retinanet":
        for i in (0, 2, 4, 6):
            shapes |= convolution(f"head.cls_subnet.{i}", c, c) | convolution(f"head.bbox_subnet.{i}", c, c)
        return shapes | convolution("head.cls_score", 9 * k, c) | convolution("head.bbox_pred", 36, c)
    head = "proposal_generator.fcos_head."
    for tower in ("cls_tower", "bbox_tower"):
        for i in (0, 3, 6, 9):
            shapes |= convolution(f"{head}{tower}.{i}", c, c)
            shapes |= {f"{head}{tower}.{i + 1}.{part}": (c,) for part in PARAMETER}
    shapes |= (
        convolution(f"{head}cls_logits", k, c)
        | convolution(f"{head}bbox_pred", 4, c)
        | convolution(f"{head}ctrness", 1, c)
    )
    shapes |= {f"{head}scales.{i}.scale": (1,) for i in range(5)}
    if name == "centermask":
        mask, iou = "roi_heads.mask_head.", "roi_heads.maskiou_head."
        for i in range(1, 5):
            shapes |= convolution(f"{mask}mask_fcn{i}", c, c) | convolution(f"{iou}maskiou_fcn{i}", c, c + (i == 1))
        shapes |= {f"{mask}spatialAtt.conv.weight": (1, 2, 3, 3)}
        shapes |= convolution(f"{mask}deconv", c, c, 2) | convolution(f"{mask}predictor", k, c, 1)
        shapes |= linear(f"{iou}maskiou_fc1", 1024, 49 * c) | linear(f"{iou}maskiou_fc2", 1024, 1024)
        shapes |= linear(f"{iou}maskiou", k, 1024)
    return shapes


@pytest.fixture(scope="module")
def backbone_state():
    """A backbone's tensors under Detectron2's names."""
    network = detectron2_resnet().network
    state = {}
    for key, value in network.state_dict().items():
        stage = re.sub(r"layer(\d)\.", lambda m: f"res{int(m[1]) + 1}.", key)
        stage = stage.replace("downsample.0", "shortcut").replace("downsample.1", "shortcut.norm")
        stage = re.sub(r"bn(\d)", r"conv\1.norm", stage)
        prefix = "backbone.bottom_up." if stage.startswith("res") else "backbone.bottom_up.stem."
        state[prefix + stage] = value
    return state


@pytest.mark.parametrize("name", ["retinanet", "fcos", "centermask"])
def test_dense_detectors(name, backbone_state, tmp_path):
    """From a file; all head outputs equal the published ones, class by class and anchor by anchor."""
    torch.manual_seed(0)
    network = small(name)
    state = backbone_state | {key: torch.randn(shape) * 0.05 for key, shape in published_shapes(name).items()}
    (tmp_path / "zoo.pkl").write_bytes(pickle.dumps({"model": {key: value.numpy() for key, value in state.items()}}))
    report = import_weights(network.eval(), tmp_path / "zoo.pkl")
    assert not report.skipped_keys
    assert len(report.notes) == {"retinanet": 0, "fcos": 1, "centermask": 2}[name]
    maps = [torch.randn(1, 256, 2, 3) for _ in range(5)]
    outputs = (network.head if name != "centermask" else network.rpn.dense.head)(maps)
    if name == "retinanet":
        check_retinanet(outputs, maps, state)
        return
    check_fcos(outputs, maps, state)
    after = network.state_dict()
    for key, source in report.loaded_keys.items():
        if not source.endswith("scales"):
            assert torch.equal(inverted(key, source, after[key]), state[source]), (key, source)


def tower(x, state, prefix, indices, grouped):
    for i in indices:
        x = nnf.conv2d(x, state[f"{prefix}{i}.weight"], state[f"{prefix}{i}.bias"], padding=1)
        if grouped:
            x = nnf.group_norm(x, 32, state[f"{prefix}{i + 1}.weight"], state[f"{prefix}{i + 1}.bias"])
        x = x.relu()
    return x


def last(x, state, key):
    return nnf.conv2d(x, state[f"{key}.weight"], state[f"{key}.bias"], padding=1)


def check_fcos(outputs, maps, state):
    head = "proposal_generator.fcos_head."
    for level, x in enumerate(maps):
        cells = slice(6 * level, 6 * (level + 1))
        classes = last(tower(x, state, f"{head}cls_tower.", (0, 3, 6, 9), True), state, f"{head}cls_logits")
        logits = outputs["cls_logits"][0, cells]
        torch.testing.assert_close(logits[:, 1:], classes[0].flatten(1).T, atol=1e-4, rtol=1e-4)
        assert (logits[:, 0] == -1e4).all()
        boxes = tower(x, state, f"{head}bbox_tower.", (0, 3, 6, 9), True)
        distances = (last(boxes, state, f"{head}bbox_pred") * state[f"{head}scales.{level}.scale"]).relu()
        torch.testing.assert_close(
            outputs["bbox_regression"][0, cells], distances[0].flatten(1).T, atol=1e-4, rtol=1e-4
        )


def check_retinanet(outputs, maps, state):
    """Published channels are (size, ratio, class); torchvision's anchors of a cell are by ratio, then size."""
    classes = last(tower(maps[0], state, "head.cls_subnet.", (0, 2, 4, 6), False), state, "head.cls_score")
    boxes = last(tower(maps[0], state, "head.bbox_subnet.", (0, 2, 4, 6), False), state, "head.bbox_pred")
    logits = outputs["cls_logits"][0, : 6 * 9].reshape(6, 3, 3, 4)  # cell, ratio, size, class
    expected = classes[0].reshape(3, 3, 3, 6).permute(3, 1, 0, 2)
    torch.testing.assert_close(logits[..., 1:], expected, atol=1e-4, rtol=1e-4)
    assert (logits[..., 0] == -1e4).all()
    deltas = outputs["bbox_regression"][0, : 6 * 9].reshape(6, 3, 3, 4)
    torch.testing.assert_close(deltas, boxes[0].reshape(3, 3, 4, 6).permute(3, 1, 0, 2), atol=1e-4, rtol=1e-4)


def test_unsupported_module():
    with pytest.raises(ValueError, match="No published layout is known for a Linear"):
        import_weights(nn.Linear(1, 1), {"a": torch.zeros(1)})


def swin_large_layout(official_shapes):
    """Keys and shapes of AFI-GAN's Swin-L model, as its configuration says: depths 2, 2, 18, 2, windows of 12."""
    shapes = {"patch_embed.proj.weight": (192, 3, 4, 4)}
    shapes |= dict.fromkeys(("patch_embed.proj.bias", "patch_embed.norm.weight", "patch_embed.norm.bias"), (192,))
    for stage, (depth, num_heads) in enumerate(zip((2, 2, 18, 2), (6, 12, 24, 48), strict=True)):
        C = 192 * 2**stage
        for block in (f"layers.{stage}.blocks.{i}" for i in range(depth)):
            linear = {"attn.qkv": (3 * C, C), "attn.proj": (C, C), "mlp.fc1": (4 * C, C), "mlp.fc2": (C, 4 * C)}
            for name, (rows, columns) in linear.items():
                shapes |= {f"{block}.{name}.weight": (rows, columns), f"{block}.{name}.bias": (rows,)}
            shapes |= {f"{block}.{norm}.{part}": (C,) for norm in ("norm1", "norm2") for part in PARAMETER}
            shapes[f"{block}.attn.relative_position_bias_table"] = (23 * 23, num_heads)
            shapes[f"{block}.attn.relative_position_index"] = (144, 144)
        if stage < 3:
            shapes[f"layers.{stage}.downsample.reduction.weight"] = (2 * C, 4 * C)
            shapes |= {f"layers.{stage}.downsample.norm.{part}": (4 * C,) for part in PARAMETER}
        if stage > 0:
            shapes |= {f"norm{stage}.{part}": (C,) for part in PARAMETER}
    body = {f"backbone.bottom_up.{key}": shape for key, shape in shapes.items()}
    neck = {f"backbone.{key}": shape for key, shape in official_shapes("swin_l_bifpn7").items()}
    cascade = official_shapes("cascade_mask_s101_fpn_afi").items()
    heads = {key: shape for key, shape in cascade if key.startswith(("proposal_generator", "roi_heads.box"))}
    return {key: torch.empty(tuple(shape), device="meta") for key, shape in (body | neck | heads).items()}


def test_the_whole_swin_l_model(official_shapes):
    """Every tensor of the network is in the file with its shape, and every tensor of the file is used, but the anchors."""
    state = swin_large_layout(official_shapes)
    config = published_detector_config("cascade-rcnn", "swin_large_patch4_window12_384", "bifpn-published", "afi")
    with torch.device("meta"):
        backbone = build_backbone(config)
        backbone.mean = torch.zeros(1, 3, 1, 1, device="cpu")  # read when the detector is built
        network = build_on_backbone(backbone, config, 80)
    converted, report = convert_state_dict(state, key_rules(network), network)
    assert set(converted) == set(network.state_dict())
    assert {name: x.shape for name, x in converted.items()} == {n: x.shape for n, x in network.state_dict().items()}
    assert len(report.skipped_keys) == 5  # the anchors
    swin = sum(x.numel() for key, x in state.items() if "bottom_up" in key and "index" not in key)
    # Swin-L without its classifier has 195.2 M parameters; three output norms instead of one
    assert swin == 195_198_516 + 2 * (384 + 768)
    generator = network.rpn.anchor_generator
    assert generator.sizes == ((32.0,), (64.0,), (128.0,), (256.0,), (512.0,))
    assert network.roi_heads.box_roi_pool.featmap_names == ["p3", "p4", "p5", "p6"]
