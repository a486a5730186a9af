"""Extended level of YOLOX-Nano: boxes, crops, losses, students and records without YOLOX, and a random YOLOX-Nano end to end."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yolox_held_out
from torch import nn
from yolox_boxes import Boxes, MergeRule, decode_boxes, merge_boxes, select_candidates, to_coco_results
from yolox_cache import CELLS, INPUTS, MAPS, MapCache, fill_cache, open_cache
from yolox_held_out import level_boxes, merge_all, pseudo_label, select_in_tiles, select_tiles
from yolox_level_options import build_parser
from yolox_losses import (
    DistillationSettings,
    bernoulli_divergence,
    find_small_objects,
    interior_mask,
    read_batch,
    relative_l1,
    sample_crops,
)
from yolox_network import YOLOXNano, run_plain_pass
from yolox_stem import ImageStem
from yolox_students import LateralUpsampler, ReduceUpsampler, UnguidedUpsampler, build_student
from yolox_training import build_optimizer, learning_rate_factor, load_student, run_name, train_student

from featlift.integrations.yolox_network import build_yolox
from featlift.upgrading.extended_family import enlarge
from featlift.upgrading.extended_yolox import YOLOXFamily

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
RESULTS = sorted((BENCHMARKS / "results" / "yolox_level").glob("*.json"))


def make_boxes(*rows: tuple[float, float, float, float, float, int]) -> Boxes:
    """Rows are x, y, width, height, score and label."""
    table = torch.tensor(rows, dtype=torch.float32).reshape(-1, 6)
    return Boxes(torch.cat([table[:, :2], table[:, :2] + table[:, 2:4]], 1), table[:, 4], table[:, 5].long())


# ---------------------------------------------------------------------------------------------------- boxes


def test_a_cell_is_decoded_to_corners():
    output = torch.zeros(1, 85, 2, 3)
    output[0, 2, 1, 2] = np.log(3)
    assert decode_boxes(output, 8.0)[0, :, 1, 2].tolist() == pytest.approx([16 - 12, 8 - 4, 16 + 12, 8 + 4])


def test_candidates_have_the_score_of_objectness_and_class():
    output = torch.full((85, 2, 2), -20.0)
    output[[4, 5 + 7], 0, 1] = 0.0
    found = select_candidates(output, 8)
    assert (found.scores.tolist(), found.labels.tolist()) == ([0.25], [7])
    assert not len(select_candidates(output, 8, label=0))


def test_only_boxes_below_the_size_limit_are_added():
    plain = make_boxes((0, 0, 100, 100, 0.9, 0))
    added = make_boxes((200, 200, 31, 31, 0.5, 1), (300, 300, 33, 33, 0.5, 1), (200, 100, 64, 15, 0.5, 2))
    merged = merge_boxes(plain, added, MergeRule(32.0))
    assert sorted(merged.labels.tolist()) == [0, 1, 2]
    assert max(merged.sizes.tolist()[1:]) < 32
    assert len(merge_boxes(plain, None, MergeRule())) == 1


def test_scores_are_scaled_before_suppression():
    plain = make_boxes((0, 0, 20, 20, 0.5, 0))
    added = make_boxes((1, 0, 20, 20, 0.8, 0), (100, 0, 20, 20, 0.01, 0))
    assert merge_boxes(plain, added, MergeRule()).scores.tolist() == pytest.approx([0.8])
    rule = MergeRule(score_factor=0.5, score_power=2.0)
    assert merge_boxes(plain, added, rule).scores.tolist() == pytest.approx([0.5])


def test_small_boxes_of_the_plain_detector_can_be_removed():
    plain = make_boxes((0, 0, 20, 20, 0.9, 0), (0, 0, 80, 80, 0.8, 1))
    merged = merge_boxes(plain, make_boxes(), MergeRule(min_plain_size=32.0))
    assert merged.labels.tolist() == [1]


def test_coco_results_are_in_pixels_of_the_original_image():
    (result,) = to_coco_results(make_boxes((10, 20, 30, 40, 0.5, 1)), 7, 0.5, [3, 9])
    assert result == {"image_id": 7, "category_id": 9, "bbox": [20, 40, 60, 80], "score": 0.5}


def test_tiles_are_around_small_confident_boxes():
    plain = make_boxes((100, 70, 10, 10, 0.5, 0), (300, 300, 90, 90, 0.9, 0), (0, 0, 9, 9, 0.01, 0))
    tiles = select_tiles(plain, 48.0, 0.02, margin=1)
    assert tiles.nonzero().tolist() == [[row, column] for row in (1, 2, 3) for column in (2, 3, 4)]
    assert select_in_tiles(make_boxes((64, 32, 4, 4, 1, 5), (0, 0, 4, 4, 1, 6)), tiles).labels.tolist() == [5]


# ---------------------------------------------------------------------------------------------------- crops and losses


@pytest.fixture
def cache() -> MapCache:
    rng = np.random.default_rng(0)
    maps = {
        name: rng.normal(size=(3, side, side, channels)).astype(np.float16) for name, (side, channels) in MAPS.items()
    }
    maps["enlarged_output"][..., 4:] = -9
    maps["enlarged_output"][..., :4] = 0
    maps["enlarged_output"][1, 60, 20, [4, 9]] = 5
    extents = ([416, 416], [416, 300], [200, 416])
    return MapCache(maps, [{"file": f"{i}.png", "scale": 0.5, "extent": extent} for i, extent in enumerate(extents)])


def test_crops_of_all_maps_show_the_same_region(cache):
    maps = cache.read(list(INPUTS), 1, (2, 3, 4))
    assert {name: tuple(value.shape[1:]) for name, value in maps.items()} == {
        name: (channels, 4 * side // CELLS, 4 * side // CELLS) for name, (side, channels) in INPUTS.items()
    }
    expected = cache.maps["c3_p3"][1][8:24, 12:28].astype(np.float32).transpose(2, 0, 1)
    assert np.array_equal(maps["c3_p3"][0].numpy(), expected)


def test_half_of_the_crops_contain_a_small_object(cache):
    small_objects = find_small_objects(cache, "enlarged_output")
    assert [positions.tolist() for positions in small_objects] == [[], [[60, 20]], []]
    crops = sample_crops(cache, 7, small_objects, np.random.default_rng(0))
    sampled = [next(crops) for _ in range(400)]
    assert all(0 <= top <= 6 and 0 <= left <= 6 for _, top, left in sampled)
    contain = [i == 1 and top <= 60 / 8 <= top + 7 and left <= 20 / 8 <= left + 7 for i, top, left in sampled]
    assert 0.5 < np.mean(contain) < 0.9


def test_losses_exclude_the_border_of_a_crop_but_not_that_of_the_image(cache):
    mask = interior_mask([(0, 3), (6, 6)], 7)[:, 0]
    assert mask.shape == (2, 56, 56)
    assert mask[0, :50, 6:50].all()
    assert mask[0].sum() == 50 * 44
    assert mask[1].sum() == 50 * 50
    batch, same = read_batch(cache, ["c3_p3"], [(0, 0, 3), (2, 6, 6)], 7)
    assert batch["c3_p3"].shape == (2, 64, 28, 28)
    assert torch.equal(same[:, 0], mask)


def test_losses_are_zero_at_the_target():
    target = torch.randn(2, 3, 4, 4)
    mask = torch.ones(2, 1, 4, 4)
    assert relative_l1(target, target, mask) == 0
    assert relative_l1(0 * target, target, mask) == pytest.approx(1)
    assert bernoulli_divergence(target, target).abs().max() < 1e-6
    assert (bernoulli_divergence(target + 1, target) > 0).all()


def test_the_learning_rate_rises_stays_and_falls():
    settings = DistillationSettings("lateral", {}, steps=1000, warmup_steps=100)
    factors = [learning_rate_factor(step, settings) for step in (0, 99, 500, 750, 1000)]
    assert factors == pytest.approx([0.01, 1, 1, 0.5, 0])


def test_a_run_is_named_by_what_differs():
    settings = DistillationSettings("lateral:light", {"guided": False}, steps=1000, target="enlarged_c3_p3", seed=2)
    assert run_name(settings) == "lateral-light_guided-False_enlarged_c3_p3_1000_seed2"
    assert run_name(DistillationSettings("reduce", {})) == "reduce_8000_seed0"


# ---------------------------------------------------------------------------------------------------- students


class SmallNetwork(nn.Module):
    """The modules of YOLOX that students use, with the same shapes."""

    def __init__(self):
        super().__init__()
        self.body, self.neck = nn.Module(), nn.Module()
        self.body.dark4 = nn.Sequential(nn.Conv2d(64, 128, 3, 2, 1))
        self.neck.upsample = nn.Upsample(scale_factor=2)
        self.neck.C3_p4, self.neck.reduce_conv1 = nn.Conv2d(256, 128, 1), nn.Conv2d(128, 64, 1)
        self.requires_grad_(False)


@pytest.fixture
def maps() -> dict[str, torch.Tensor]:
    return {
        name: torch.rand(2, channels, 4 * side // CELLS, 4 * side // CELLS) for name, (side, channels) in INPUTS.items()
    }


@pytest.mark.parametrize(
    ("name", "options", "kind"),
    [
        ("nearest", {}, UnguidedUpsampler),
        ("reduce", {}, ReduceUpsampler),
        ("reduce:bilinear", {"guides": ("dark3",), "blocks": (1, 1, 1)}, ReduceUpsampler),
        ("lateral", {}, LateralUpsampler),
        ("lateral:light", {"guided": False}, LateralUpsampler),
        ("lateral", {"adapted": True}, LateralUpsampler),
    ],
)
def test_students_give_the_enlarged_map(name, options, kind, maps):
    student = build_student(name, SmallNetwork(), options)
    assert isinstance(student, kind)
    assert student({name: maps[name] for name in student.inputs}).shape == (2, 64, 16, 16)
    assert not any("frozen" in key for key in student.state_dict())


def test_copies_of_blocks_have_a_tenth_of_the_learning_rate():
    student = build_student("lateral", SmallNetwork(), {"adapted": True})
    settings = DistillationSettings("lateral", {}, learning_rate=0.01)
    others, copies = build_optimizer(student, settings).param_groups
    assert (others["lr"], copies["lr"], copies["weight_decay"]) == pytest.approx((0.01, 0.001, 0))
    assert len(others["params"]) + len(copies["params"]) == len(list(student.parameters()))


# ---------------------------------------------------------------------------------------------------- pseudo labels


class FixedOutputs:
    """Network whose heads return nothing except one object at stride 8."""

    def compute_neck_maps(self, c3_p3, reduce_conv1, lateral_conv0):
        return [c3_p3, reduce_conv1, lateral_conv0]

    def compute_output(self, features, level=0):
        output = torch.full((1, 85, *features.shape[-2:]), -9.0)
        output[:, :4] = 0
        if level == 0:
            output[0, 2:4, 10, 10], output[0, [4, 5], 10, 10] = np.log(8), 5.0
        return output


def test_pseudo_labels_are_the_confident_boxes_of_plain_detector_and_teacher(cache):
    held_out = pseudo_label(FixedOutputs(), cache, num_images=2, min_score=0.3)
    annotations = held_out.ground_truth["annotations"]
    assert [(one["image_id"], one["category_id"], round(one["area"])) for one in annotations] == [
        (0, 0, 128**2),
        (1, 0, 128**2),
        (1, 4, 8**2),
    ]
    assert held_out.ground_truth["images"][1] == {"id": 1, "file_name": "1.png", "height": 832, "width": 600}


def test_the_teacher_scores_best_on_its_own_pseudo_labels(cache):
    """A factor of the level's scores can be chosen without labels: one that removes all boxes of the level is worse."""
    held_out = pseudo_label(FixedOutputs(), cache, num_images=2, min_score=0.3)
    ar = [
        yolox_held_out.coco_metrics(
            held_out.ground_truth, merge_all(held_out, held_out.native, MergeRule(32.0, factor))
        )["ar"]
        for factor in (1.0, 0.001)
    ]
    assert ar == pytest.approx([1.0, 0.5])


# ---------------------------------------------------------------------------------------------------- records and options


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_recorded_commands_have_present_options(path):
    command = json.loads(path.read_text())["made"]["command"].split(" (")[0].split()
    assert command[:2] == ["python", "benchmarks/yolox_level.py"]
    build_parser(None, Path("weights.onnx")).parse_args(command[2:])


def test_help_needs_no_yolox():
    """All in one process, since the imports take most of the time."""
    code = (
        "import sys; sys.modules['yolox'] = None; import yolox_level\n"
        "for step in ([], ['cache'], ['train'], ['evaluate']):\n"
        "    sys.argv = ['yolox_level.py', *step, '--help']\n"
        "    try: yolox_level.main()\n"
        "    except SystemExit as end: assert not end.code, step\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=BENCHMARKS, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("usage:") == 4


def test_the_error_without_yolox_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "yolox", None)
    with pytest.raises(ImportError, match="pip install pixeltable-yolox"):
        build_yolox("nano")


# ---------------------------------------------------------------------------------------------------- YOLOX-Nano


@pytest.fixture(scope="module")
def network() -> YOLOXNano:
    pytest.importorskip("yolox", reason="needs pixeltable-yolox")
    torch.manual_seed(0)
    return YOLOXNano(build_yolox("nano", fused=True))


@torch.no_grad()
def test_the_library_divides_the_network_in_the_same_way():
    pytest.importorskip("yolox", reason="needs pixeltable-yolox")
    model, family, image = build_yolox("nano", 80), YOLOXFamily(), enlarge(torch.rand(1, 3, 64, 64) * 255)
    early = family.early_maps(model, image)
    maps = family.finest_maps(model, early, family.coarse_map(model, early))
    predicted = family.predict(model, maps, (64, 64))
    expected = run_plain_pass(YOLOXNano(model), image)
    torch.testing.assert_close(maps[0], expected.c3_p3)
    output = expected.outputs[0]
    torch.testing.assert_close(predicted.boxes, decode_boxes(output, 4).flatten(2).transpose(1, 2))
    torch.testing.assert_close(predicted.objectness_logits, output[:, 4].flatten(1))
    torch.testing.assert_close(predicted.class_logits, output[:, 5:].flatten(2).transpose(1, 2))


def test_the_stem_on_the_image_equals_that_on_the_enlarged_image(network):
    image = torch.rand(1, 3, 64, 64) * 255
    expected = network.body.stem(enlarge(image))
    interior = (..., slice(3, -3), slice(3, -3))
    torch.testing.assert_close(ImageStem(network)(image)[interior], expected[interior], rtol=1e-4, atol=1e-3)
    assert ImageStem(network, 3, [image])(image).shape == expected.shape


def test_the_bound_is_the_pass_on_the_enlarged_image(network):
    image = torch.rand(1, 3, 64, 64) * 255
    dark3 = network.compute_dark3(enlarge(image))
    reduce_conv1 = build_student("bound", network)({"enlarged_dark3": dark3})
    output = network.compute_output(network.compute_c3_p3(reduce_conv1, dark3))
    torch.testing.assert_close(output, run_plain_pass(network, enlarge(image)).outputs[0])


def test_random_yolox_nano_end_to_end(network, tmp_path):
    pytest.importorskip("cv2", exc_type=ImportError)
    rng = np.random.default_rng(0)
    images = [(f"{i}.png", rng.integers(0, 256, (100, 120, 3), np.uint8)) for i in range(2)]
    fill_cache(network, tmp_path / "unlabeled", list(MAPS), iter(images), 2)
    cache = open_cache(tmp_path / "unlabeled")
    cache.maps["enlarged_output"] = np.array(cache.maps["enlarged_output"])
    cache.maps["enlarged_output"][0, 60, 20, [4, 9]] = 5
    held_out = pseudo_label(network, cache, 2, 0.3)
    settings = DistillationSettings("lateral", {"blocks": 1}, steps=2, batch_size=1, crop_size=3, precision="float32")
    before = network.state_dict()["neck.reduce_conv1.conv.weight"].clone()

    def evaluate(student: nn.Module) -> dict[str, int]:
        return {"boxes": len(merge_all(held_out, level_boxes(network, student, held_out), MergeRule()))}

    records = train_student(network, cache, settings, tmp_path, [2], evaluate)
    assert (records["step"], [one["step"] for one in records["evaluations"]]) == (2, [2])
    resumed = train_student(network, cache, settings, tmp_path, [2], evaluate)
    assert resumed == records
    student, checkpoint = load_student(tmp_path / f"{run_name(settings)}.pt", network)
    assert checkpoint["settings"]["student"] == "lateral"
    assert isinstance(student, LateralUpsampler)
    assert torch.equal(network.state_dict()["neck.reduce_conv1.conv.weight"], before)
