"""Cross-resolution: sizes, boxes, masks, flips, and freezing."""

import copy

import numpy
import pytest
import torch
from PIL import Image
from torch import nn

from featlift.backbones import Backbone
from featlift.detectors import Extractor
from featlift.features import crop_to_match
from featlift.interpolators import interpolator
from featlift.pyramids import FPN, MaxPoolP6
from featlift.resolution import (
    cross_resolution,
    downscale_features,
    downscale_images,
    downscale_targets,
    freeze,
    frozen_copy,
    quantize_8bit,
    rgb_to_luma,
)

# ---------------------------------------------------------------------------------------------------- images


@pytest.mark.parametrize("size", [(4, 6), (5, 7), (4, 5), (1, 1), (1, 8), (2, 3)])
def test_half_is_the_mean_of_two_by_two(size):
    image = torch.rand(3, *size)
    small = downscale_images([image])[0]
    height, width = max(1, size[0] // 2), max(1, size[1] // 2)
    assert small.shape == (3, height, width)
    for i in range(height):
        for j in range(width):
            cells = image[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
            torch.testing.assert_close(small[:, i, j], cells.mean(dim=(1, 2)))


def test_nearest_takes_the_even_pixels():
    image = torch.rand(3, 5, 8)
    assert torch.equal(downscale_images([image], mode="nearest")[0], image[:, 0:4:2, ::2])


def test_bicubic_is_pillows():
    image = torch.rand(1, 24, 16)
    pillow = Image.fromarray(image[0].numpy(), mode="F").resize((4, 6), Image.Resampling.BICUBIC)
    expected = torch.from_numpy(numpy.asarray(pillow).copy()).clamp(0, 1)
    torch.testing.assert_close(downscale_images([image], 0.25, "bicubic")[0][0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
def test_values_stay_between_0_and_1_and_scale_1_is_the_identity(mode):
    image = (torch.rand(3, 12, 10) > 0.5).float()
    small = downscale_images([image], 0.5, mode)[0]
    assert small.min() >= 0
    assert small.max() <= 1
    torch.testing.assert_close(downscale_images([image], 1.0, mode)[0], image)


@pytest.mark.parametrize(("scale", "size"), [(0.5, (400, 666)), (0.25, (200, 333)), (0.1, (80, 133))])
def test_sizes_are_rounded_down(scale, size):
    assert downscale_images([torch.zeros(3, 800, 1333)], scale)[0].shape[1:] == size


def test_flips_agree():
    """Spec check 5: shrinking and flipping commute, so both views have the same orientation."""
    image = torch.rand(3, 8, 10)
    target = {"boxes": torch.tensor([[1.0, 2.0, 5.0, 8.0]]), "labels": torch.tensor([1])}
    flipped = {**target, "boxes": torch.tensor([[10 - 5.0, 2.0, 10 - 1.0, 8.0]])}
    torch.testing.assert_close(downscale_images([image.flip(-1)])[0], downscale_images([image])[0].flip(-1))
    x1, y1, x2, y2 = downscale_targets([target], [image])[0]["boxes"][0].tolist()
    assert downscale_targets([flipped], [image])[0]["boxes"].tolist() == [[5 - x2, y1, 5 - x1, y2]]


def test_wrong_scale_and_mode():
    image = torch.zeros(3, 4, 4)
    for scale in (0, -1, 2):
        with pytest.raises(ValueError, match=f"scale is {scale}"):
            downscale_images([image], scale)
    with pytest.raises(ValueError, match="'area'; choose one of bilinear, nearest, bicubic"):
        downscale_images([image], mode="area")


# ---------------------------------------------------------------------------------------------------- targets


@pytest.mark.parametrize("size", [(40, 60), (41, 61), (40, 61)])
def test_boxes_are_downscaled_within_a_pixel(size):
    corners = torch.rand(20, 2, 2).sort(dim=1).values * torch.tensor([size[1], size[0]])
    boxes = corners.flatten(1)
    boxes[:, 2:] += 2 - boxes[:, 2:] % 2  # no box vanishes
    boxes = boxes.minimum(torch.tensor([size[1], size[0]] * 2))
    target = {"boxes": boxes, "labels": torch.arange(20)}
    small = downscale_targets([target], [torch.zeros(3, *size)])[0]
    remaining = boxes[small["labels"]]
    assert len(remaining) > 10
    assert (small["boxes"] - remaining / 2).abs().max() <= 1
    assert (small["boxes"] <= torch.tensor([size[1] // 2, size[0] // 2] * 2)).all()


def test_small_objects_are_removed_from_all_fields():
    image = torch.zeros(3, 20, 20)
    target = {
        "boxes": torch.tensor(
            [[0.0, 0.0, 8.0, 6.0], [3.0, 3.0, 4.5, 9.0], [2.0, 2.0, 4.0, 4.0], [10.0, 10.0, 20.0, 11.0]]
        ),
        "labels": torch.tensor([7, 8, 9, 10]),
        "iscrowd": torch.tensor([0, 0, 1, 0]),
        "area": torch.tensor([48.0, 9.0, 4.0, 10.0]),
        "masks": torch.ones(4, 20, 20, dtype=torch.uint8),
        "image_id": torch.tensor(3),
    }
    before = copy.deepcopy(target)
    small = downscale_targets([target], [image])[0]
    assert small["labels"].tolist() == [7, 9]
    assert small["boxes"].tolist() == [[0, 0, 4, 3], [1, 1, 2, 2]]
    assert small["area"].tolist() == [12, 1]
    assert small["iscrowd"].tolist() == [0, 1]
    assert small["masks"].shape == (2, 10, 10)
    assert small["image_id"] == 3
    assert all(torch.equal(value, before[name]) for name, value in target.items())
    assert len(downscale_targets([target], [image], min_box_size=2.5)[0]["labels"]) == 1


def test_an_image_without_objects():
    empty = {
        "boxes": torch.zeros(0, 4),
        "labels": torch.zeros(0, dtype=torch.int64),
        "masks": torch.zeros(0, 9, 9, dtype=torch.uint8),
    }
    small = downscale_targets([empty], [torch.zeros(3, 9, 9)])[0]
    assert small["boxes"].shape == (0, 4)
    assert small["masks"].shape == (0, 4, 4)


def test_masks_are_downscaled_by_majority():
    mask = torch.zeros(1, 7, 8, dtype=torch.uint8)
    mask[0, 2:6, 4:8] = 1  # whole cells of the small image
    mask[0, 0, 0] = 1  # a quarter of a cell
    mask[0, 0:2, 2] = 1  # half a cell
    target = {"boxes": torch.tensor([[0.0, 0.0, 8.0, 6.0]]), "labels": torch.tensor([1]), "masks": mask}
    small = downscale_targets([target], [torch.zeros(3, 7, 8)])[0]["masks"]
    assert small.dtype == torch.uint8
    assert small[0].tolist() == [[0, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]


def test_keypoints_move_with_their_object():
    target = {
        "boxes": torch.tensor([[0.0, 0.0, 8.0, 8.0], [0.0, 0.0, 1.0, 1.0]]),
        "labels": torch.tensor([1, 1]),
        "keypoints": torch.tensor([[[4.0, 6.0, 1.0]], [[1.0, 1.0, 1.0]]]),
    }
    assert downscale_targets([target], [torch.zeros(3, 8, 8)])[0]["keypoints"].tolist() == [[[2, 3, 1]]]


# ---------------------------------------------------------------------------------------------------- features


@pytest.mark.parametrize("size", [(4, 6), (5, 7), (1, 5), (1, 1), (25, 13)])
def test_downscaled_features(size):
    x = torch.randn(2, 3, *size)
    height, width = max(1, size[0] // 2), max(1, size[1] // 2)
    mean = downscale_features({"p3": x})["p3"]
    even = downscale_features({"p3": x}, "nearest")["p3"]
    assert mean.shape == even.shape == (2, 3, height, width)
    for i in range(height):
        for j in range(width):
            torch.testing.assert_close(mean[:, :, i, j], x[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean(dim=(2, 3)))
            assert torch.equal(even[:, :, i, j], x[:, :, 2 * i, 2 * j])


def extractor() -> Extractor:
    backbone = Backbone("mobilenetv3_small_050")
    fpn = FPN(backbone.channels, 8, [interpolator("nearest", 8)], MaxPoolP6())
    return Extractor(backbone, fpn).eval()


def padded(images: list[torch.Tensor]) -> torch.Tensor:
    """One image, padded to multiples of 32 as by every detector."""
    image = images[0]
    missing = [-side % 32 for side in image.shape[-2:]]
    return nn.functional.pad(image, (0, missing[1], 0, missing[0]))[None]


def test_sizes_of_both_stages_for_a_side_of_800():
    """Spec check 6: the high- and low-resolution images are padded separately, so maps are cropped to the smaller."""
    network = extractor()
    low, high = cross_resolution(
        lambda images: network(padded(images)),
        lambda images: network(padded(images)),
        [torch.rand(3, 800, 64)],
        downscale_images,
    )
    upsampled = {level: interpolator("nearest", 8)(x) for level, x in low.items()}
    assert [x.shape[-2] for x in high.values()] == [200, 100, 50, 25, 13]
    assert [x.shape[-2] for x in upsampled.values()] == [208, 104, 52, 26, 14]
    for cropped in crop_to_match(upsampled, high):
        assert [x.shape[-2] for x in cropped.values()] == [200, 100, 50, 25, 13]
    for cropped in crop_to_match(low, downscale_features(high)):
        assert [x.shape[-2] for x in cropped.values()] == [100, 50, 25, 12, 6]


# ---------------------------------------------------------------------------------------------------- two networks


def test_teacher_gets_the_image_and_student_the_downscaled_image():
    weight = torch.tensor(2.0, requires_grad=True)
    student, teacher = cross_resolution(
        lambda images: {"image": weight * images[0]},
        lambda images: {"image": 3 * weight * images[0]},
        [torch.ones(3, 8, 6)],
        downscale_images,
    )
    assert teacher["image"].shape == (3, 8, 6)
    assert teacher["image"].unique().tolist() == [2.0]
    assert not teacher["image"].requires_grad
    assert student["image"].shape == (3, 4, 3)
    assert student["image"].unique().tolist() == [6.0]
    assert student["image"].requires_grad


def trainable() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5))


def test_frozen_stays_frozen_inside_a_parent_in_training():
    frozen = frozen_copy(trainable())
    parent = nn.ModuleDict({"teacher": frozen, "student": trainable()}).train()
    before = {name: value.clone() for name, value in frozen.state_dict().items()}
    assert parent["student"].training
    assert not any(module.training for module in frozen.modules())
    x = torch.randn(4, 3, 8, 8) + 5
    assert torch.equal(frozen(x), frozen(x))
    assert all(torch.equal(value, before[name]) for name, value in frozen.state_dict().items())
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    assert frozen.train() is frozen


def test_gradients_flow_through_a_frozen_module():
    x = torch.randn(1, 3, 8, 8, requires_grad=True)
    frozen_copy(trainable())(x).sum().backward()
    assert x.grad is not None
    assert x.grad.any()


def test_frozen_is_a_copy_and_can_be_copied():
    module = trainable()
    frozen = frozen_copy(module)
    assert module.training
    assert all(parameter.requires_grad for parameter in module.parameters())
    with torch.no_grad():
        module[0].weight.zero_()
    assert frozen[0].weight.any()
    copied = copy.deepcopy(frozen)
    assert copied.train() is copied
    assert not copied[1].training


def test_freezing_in_place_stops_the_module_itself():
    module = trainable()
    parent = nn.Sequential(nn.Conv2d(3, 3, 1), freeze(module)).train()
    assert parent[0].training
    assert parent[1] is module
    before = module[1].running_mean.clone()
    parent(torch.randn(4, 3, 8, 8) + 5)
    assert torch.equal(module[1].running_mean, before)
    assert [parameter.requires_grad for parameter in parent.parameters()] == [True] * 2 + [False] * 4


def test_luma_of_white_and_black_with_and_without_a_batch():
    white, black = torch.ones(1, 3, 1, 1), torch.zeros(1, 3, 1, 1)
    assert rgb_to_luma(white).item() == rgb_to_luma(white[0]).item() == pytest.approx(235 / 255, abs=1e-6)
    assert rgb_to_luma(black).item() == pytest.approx(16 / 255, abs=1e-6)
    assert rgb_to_luma(torch.rand(2, 3, 4, 5)).shape == (2, 1, 4, 5)


def test_quantization_has_256_levels():
    out = quantize_8bit(torch.tensor([-0.2, 0.5, 1.3, 1 / 255 + 1e-4]))
    torch.testing.assert_close(out, torch.tensor([0.0, 128 / 255, 1.0, 1 / 255]))
