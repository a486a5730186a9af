import pytest
import torch

from featlift.backbones import Backbone
from featlift.detectors.batch_transform import BatchTransform

MEAN = torch.tensor([0.5, 0.25, 0.75]).view(1, 3, 1, 1)
IMAGES = [torch.rand(3, 20, 33), torch.rand(3, 40, 10)]


def boxes(*values: list[float]) -> dict[str, torch.Tensor]:
    return {"boxes": torch.tensor(values), "labels": torch.ones(len(values), dtype=torch.int64)}


def test_pads_at_the_bottom_and_right_with_the_mean_color():
    batch, _ = BatchTransform(MEAN).train()(IMAGES)
    assert batch.tensors.shape == (2, 3, 64, 64)
    assert batch.image_sizes == [(20, 33), (40, 10)]
    for image, padded in zip(IMAGES, batch.tensors, strict=True):
        height, width = image.shape[-2:]
        torch.testing.assert_close(padded[:, :height, :width], image)
        outside = torch.ones(64, 64, dtype=torch.bool)
        outside[:height, :width] = False
        assert torch.equal(padded[:, outside], MEAN.view(3, 1).expand(3, int(outside.sum())))


def test_the_padding_is_zero_inside_the_backbone():
    backbone = Backbone("mobilenetv3_small_050")
    batch, _ = BatchTransform(backbone.mean).train()([torch.rand(3, 20, 20)])
    inputs_seen = []
    backbone.network.register_forward_pre_hook(lambda _, inputs: inputs_seen.append(inputs[0]))
    backbone(batch.tensors)
    assert not inputs_seen[0][..., 20:, :].any()
    assert not inputs_seen[0][..., 20:].any()
    assert inputs_seen[0][..., :20, :20].any()


@pytest.mark.parametrize("divisible", [32, 128])
def test_the_batch_size_is_divisible(divisible):
    batch, _ = BatchTransform(MEAN, size_divisible=divisible).train()([torch.rand(3, 130, 65)])
    assert all(side % divisible == 0 for side in batch.tensors.shape[-2:])


def test_never_resizes_in_training():
    targets = [boxes([1.0, 2.0, 9.0, 8.0]), boxes([0.0, 0.0, 9.5, 39.0])]
    batch, after = BatchTransform(MEAN, test_size=(100, 200)).train()(IMAGES, targets)
    assert batch.image_sizes == [(20, 33), (40, 10)]
    assert all(torch.equal(a["boxes"], b["boxes"]) for a, b in zip(targets, after, strict=True))


@pytest.mark.parametrize(("size", "inside"), [((20, 40), (50, 100)), ((20, 80), (30, 120)), ((100, 100), (50, 50))])
def test_resizes_to_the_test_size_in_evaluation(size, inside):
    """The short side becomes 50, unless the longest would pass 120; boxes come back in pixels of the input image."""
    transform = BatchTransform(MEAN, test_size=(50, 120)).eval()
    batch, targets = transform([torch.rand(3, *size)], [boxes([0.0, 0.0, float(size[1]), float(size[0])])])
    assert batch.image_sizes == [inside]
    assert targets[0]["boxes"][0].tolist() == pytest.approx([0, 0, inside[1], inside[0]])
    detections = [{"boxes": torch.tensor([[0.0, 0.0, inside[1] / 2, inside[0]]])}]
    back = transform.postprocess(detections, batch.image_sizes, [size])[0]["boxes"][0]
    assert back.tolist() == pytest.approx([0, 0, size[1] / 2, size[0]])


def test_a_side_does_not_become_zero():
    """1500x3 px at a longest side of 128: 3 · 128 / 1500 is 0.26 px, which torchvision rounds to 0."""
    transform = BatchTransform(MEAN, test_size=(64, 128)).eval()
    batch, targets = transform([torch.rand(3, 3, 1500)], [boxes([0.0, 0.0, 750.0, 3.0])])
    assert batch.image_sizes == [(1, 128)]
    assert targets[0]["boxes"][0].tolist() == [0, 0, 64, 1]
    back = transform.postprocess([{"boxes": targets[0]["boxes"]}], batch.image_sizes, [(3, 1500)])[0]["boxes"][0]
    assert back.tolist() == [0, 0, 750, 3]


def test_without_a_test_size_evaluation_keeps_sizes():
    batch, _ = BatchTransform(MEAN).eval()(IMAGES)
    assert batch.image_sizes == [(20, 33), (40, 10)]


def test_eight_bit_images_are_refused():
    with pytest.raises(TypeError, match=r"uint8; divide 8-bit images by 255"):
        BatchTransform(MEAN)([torch.zeros(3, 8, 8, dtype=torch.uint8)])
