import pytest
import torch

from featlift.cli.main import main
from featlift.conversion import detectron2_resnet, import_weights
from featlift.conversion.detector_files import published_detector_config
from featlift.detectors.checkpoint import load_detector, read_category_ids
from featlift.detectors.config import build_detector


@pytest.fixture
def zoo_file(tmp_path):
    """Random weights under the published keys: those that the conversion of a Faster R-CNN reads, with their shapes."""
    torch.manual_seed(0)
    config = published_detector_config("faster-rcnn")
    network = build_detector(config, 80)
    state = official_state(network)
    torch.save({"model": state}, tmp_path / "model_final.pth")
    return tmp_path / "model_final.pth", state


def official_state(network):
    """The published names of the tensors of a Faster R-CNN R50-FPN, each with random values."""
    draw = lambda *shape: 0.02 * torch.randn(*shape)  # noqa: E731
    state = {}
    for name, x in network.backbone.backbone.network.state_dict().items():
        parts = name.split(".")
        if parts[0] == "conv1":
            key = "stem.conv1.weight"
        elif parts[0] == "bn1":
            key = f"stem.conv1.norm.{parts[1]}"
        else:
            stage, block, layer = int(parts[0][5:]) + 1, parts[1], parts[2]
            if layer == "downsample":
                key = f"res{stage}.{block}.shortcut.{'norm.' if parts[3] == '1' else ''}{parts[4]}"
            elif layer.startswith("bn"):
                key = f"res{stage}.{block}.conv{layer[2]}.norm.{parts[3]}"
            else:
                key = f"res{stage}.{block}.{layer}.{parts[3]}"
        if "num_batches" not in key:
            state[f"backbone.bottom_up.{key}"] = draw(*x.shape).abs() if "running_var" in key else draw(*x.shape)
    for level, channels in zip("2345", (256, 512, 1024, 2048), strict=True):
        state |= {
            f"backbone.fpn_lateral{level}.weight": draw(256, channels, 1, 1),
            f"backbone.fpn_lateral{level}.bias": draw(256),
        }
        state |= {
            f"backbone.fpn_output{level}.weight": draw(256, 256, 3, 3),
            f"backbone.fpn_output{level}.bias": draw(256),
        }
    rpn, head, predictor = "proposal_generator.rpn_head", "roi_heads.box_head", "roi_heads.box_predictor"
    for key, shape in {
        f"{rpn}.conv": (256, 256, 3, 3),
        f"{rpn}.objectness_logits": (3, 256, 1, 1),
        f"{rpn}.anchor_deltas": (12, 256, 1, 1),
        f"{head}.fc1": (1024, 256 * 49),
        f"{head}.fc2": (1024, 1024),
        f"{predictor}.cls_score": (81, 1024),
        f"{predictor}.bbox_pred": (320, 1024),
    }.items():
        state |= {f"{key}.weight": draw(*shape), f"{key}.bias": draw(shape[0])}
    return state


def test_a_file_of_the_zoo_becomes_a_detector_that_every_command_takes(zoo_file, tmp_path, capsys):
    file, state = zoo_file
    out = tmp_path / "zoo"
    assert main(["import", str(file), "--detector", "faster-rcnn", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "half a cell" not in printed
    assert "rounded" not in printed
    detector, classes = load_detector(out)
    assert (len(classes), classes[0], classes[-1]) == (80, "person", "toothbrush")
    assert read_category_ids(out)[10:13] == [11, 13, 14]
    network = detector.backbone.backbone
    block = network.network.layer2[0]
    assert (block.conv1.stride, block.conv2.stride) == ((2, 2), (1, 1))
    stem = state["backbone.bottom_up.stem.conv1.weight"]
    assert torch.equal(network.network.conv1.weight, stem.flip(1))
    assert torch.equal(network.mean, detectron2_resnet().mean)
    direct = build_detector(published_detector_config("faster-rcnn"), 80)
    import_weights(direct, state)
    image = torch.rand(3, 64, 96)
    with torch.no_grad():
        for level, x in direct.eval().backbone(image[None]).items():
            torch.testing.assert_close(detector.eval().backbone(image[None])[level], x)


def test_weights_of_another_detector_leave_nothing_behind(zoo_file, tmp_path, capsys):
    file, _ = zoo_file
    assert main(["import", str(file), "--detector", "retinanet", "--out", str(tmp_path / "zoo")]) != 0
    assert "proposal_generator" in capsys.readouterr().err
    assert not (tmp_path / "zoo").exists()
