"""Losses by hand, and their gradients."""

import math

import pytest
import torch
from torch import Tensor, nn

from featlift.distillation.discriminator import PatchDiscriminator
from featlift.features import boxes_to_mask
from featlift.losses import (
    discriminator_accuracy,
    discriminator_logits,
    discriminator_loss,
    feature_mse,
    foreground_l1,
    generator_adversarial_loss,
    pixel_l1,
    pyramid_l1,
)


def cells(*values: float) -> Tensor:
    return torch.tensor(values).view(1, 1, 1, -1)


def cross_entropy(logit: float, label: int) -> float:
    """-log of the sigmoid's probability of the label."""
    probability = 1 / (1 + math.exp(-logit))
    return -math.log(probability if label else 1 - probability)


STUDENT = {"p3": cells(1.0, -2.0), "p4": cells(3.0)}
TEACHER = {"p3": cells(0.0, 1.0), "p4": cells(-1.0)}


def test_pyramid_l1_by_hand():
    assert pyramid_l1(STUDENT, TEACHER).item() == pytest.approx((1 + 3) / 2 + 4)


def test_discriminator_loss_by_hand():
    real = (cross_entropy(0, 1) + cross_entropy(1, 1)) / 2 + cross_entropy(-1, 1)
    fake = (cross_entropy(1, 0) + cross_entropy(-2, 0)) / 2 + cross_entropy(3, 0)
    assert discriminator_loss(STUDENT, TEACHER).item() == pytest.approx(real + fake, rel=1e-6)


def test_generator_adversarial_loss_by_hand():
    expected = (cross_entropy(1, 1) + cross_entropy(-2, 1)) / 2 + cross_entropy(3, 1)
    assert generator_adversarial_loss(nn.Identity(), STUDENT).item() == pytest.approx(expected, rel=1e-6)


def test_losses_stay_finite_for_large_logits():
    large = {"p3": cells(500.0, -500.0)}
    assert generator_adversarial_loss(nn.Identity(), large).item() == pytest.approx(250)
    assert discriminator_loss(large, large).item() == pytest.approx(500)


@pytest.mark.parametrize(
    "loss",
    [pyramid_l1, lambda student, teacher: generator_adversarial_loss(nn.Identity(), student), discriminator_loss],
    ids=["content", "generator", "discriminator"],
)
def test_sums_over_levels_of_means_over_cells(loss):
    student, teacher = {"p3": torch.randn(2, 3, 4, 5)}, {"p3": torch.randn(2, 3, 4, 5)}
    once = loss(student, teacher)
    twice = loss({"p2": student["p3"], **student}, {"p2": teacher["p3"], **teacher})
    wider = loss({"p3": student["p3"].repeat(1, 1, 2, 3)}, {"p3": teacher["p3"].repeat(1, 1, 2, 3)})
    torch.testing.assert_close(twice, 2 * once)
    torch.testing.assert_close(wider, once)


@pytest.mark.parametrize("loss", [pyramid_l1, discriminator_loss], ids=["content", "discriminator"])
def test_gradients_are_right(loss):
    def of_tensors(a: Tensor, b: Tensor) -> Tensor:
        return loss({"p3": a, "p4": a[..., :1]}, {"p3": b, "p4": b[..., :1]})

    maps = [torch.randn(1, 2, 2, 3, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    assert torch.autograd.gradcheck(of_tensors, maps)


def networks() -> tuple[nn.Module, nn.Module, Tensor]:
    return nn.Conv2d(4, 4, 3, padding=1), PatchDiscriminator(4).eval(), torch.randn(2, 4, 5, 5)


def test_the_generator_gets_gradients_through_the_discriminator():
    """The published code detaches here, so its adversarial term has no effect."""
    generator, discriminator, x = networks()
    generator_adversarial_loss(discriminator, {"p3": generator(x)}).backward()
    assert all(parameter.grad.any() for parameter in generator.parameters())


def test_the_adversarial_term_changes_the_generators_gradient():
    """Spec check 3: λ > 0 changes it, λ = 0 is content alone."""
    generator, discriminator, x = networks()
    teacher = {"p3": torch.randn(2, 4, 5, 5)}

    def gradient(weight: float | None) -> Tensor:
        generator.zero_grad()
        student = {"p3": generator(x)}
        loss = pyramid_l1(student, teacher)
        (loss if weight is None else loss + weight * generator_adversarial_loss(discriminator, student)).backward()
        return generator.weight.grad.clone()

    assert torch.equal(gradient(0.0), gradient(None))
    assert not torch.allclose(gradient(1.0), gradient(None), rtol=1e-4, atol=0)


def test_the_discriminator_loss_gives_the_generator_no_gradient():
    generator, discriminator, x = networks()
    fake = discriminator_logits(discriminator, {"p3": generator(x)}, detach=True)
    discriminator_loss(fake, discriminator_logits(discriminator, {"p3": torch.randn(2, 4, 5, 5)})).backward()
    assert all(parameter.grad is None for parameter in generator.parameters())
    assert all(parameter.grad.any() for parameter in discriminator.parameters())


def test_logits_are_detached_on_request():
    generator, discriminator, x = networks()
    maps = {"p3": generator(x)}
    logits = discriminator_logits(discriminator, maps)["p3"]
    assert logits.shape == (2, 1, 5, 5)
    assert torch.autograd.grad(logits.sum(), generator.weight, allow_unused=True)[0] is not None
    detached = discriminator_logits(discriminator, maps, detach=True)["p3"]
    assert torch.autograd.grad(detached.sum(), generator.weight, allow_unused=True)[0] is None


def test_accuracy_by_hand():
    accuracy = discriminator_accuracy(
        {"p3": cells(-1.0, 2.0), "p4": cells(-3.0, -1.0)}, {"p3": cells(1.0), "p4": cells(2.0, -4.0)}
    )
    assert accuracy["accuracy_fake"].item() == pytest.approx(3 / 4)
    assert accuracy["accuracy_real"].item() == pytest.approx(2 / 3)


def two_maps():
    return {"a": torch.randn(2, 3, 4, 5), "b": torch.randn(2, 6, 2, 3)}


def test_pixel_l1_by_hand():
    assert pixel_l1(torch.tensor([[0.0, 1.0]]), torch.tensor([[0.5, 0.25]])).item() == pytest.approx(0.625)


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("scale_free", [False, True])
def test_feature_mse_by_loop(power, scale_free):
    student, teacher = two_maps(), two_maps()
    total = 0.0
    for level, target in teacher.items():
        rows = []
        for a, b in zip(student[level].tolist(), target.tolist(), strict=True):
            a, b = torch.tensor(a).flatten().tolist(), torch.tensor(b).flatten().tolist()
            error = sum((m - t) ** 2 for m, t in zip(a, b, strict=True)) / len(b)
            norm = sum(t**2 for t in b) / len(b)
            error, norm = (error, norm) if power == 2 else (error**0.5, norm**0.5)
            rows.append(error / norm if scale_free else error)
        total += sum(rows) / len(rows)
    assert feature_mse(student, teacher, power, scale_free).item() == pytest.approx(total, rel=1e-5)


def test_scale_free_is_invariant_to_scale():
    student, teacher = two_maps(), two_maps()
    scaled = [{name: 10 * x for name, x in side.items()} for side in (student, teacher)]
    assert feature_mse(scaled[0], scaled[1], scale_free=True).item() == pytest.approx(
        feature_mse(student, teacher, scale_free=True).item(), rel=1e-5
    )


@pytest.mark.parametrize("power", [1, 2])
def test_equal_features_have_no_loss_and_a_finite_gradient(power):
    x = torch.randn(1, 3, 4, 4, requires_grad=True)
    loss = feature_mse({"a": x}, {"a": x.detach()}, power)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=2e-6)
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_half_precision_is_summed_in_float32():
    teacher = {"a": torch.full((1, 64, 32, 32), 300.0, dtype=torch.float16)}
    student = {"a": torch.zeros(1, 64, 32, 32, dtype=torch.float16)}
    assert feature_mse(student, teacher).item() == pytest.approx(90_000)


def test_feature_mse_errors():
    with pytest.raises(ValueError, match="power"):
        feature_mse(two_maps(), two_maps(), 3)
    with pytest.raises(ValueError, match="every level"):
        feature_mse({}, two_maps())


def test_foreground_by_loop():
    torch.manual_seed(0)
    student, teacher = two_maps(), two_maps()
    masks = {name: (torch.rand(2, 1, *x.shape[2:]) < 0.4).float() for name, x in student.items()}
    total = 0.0
    for level, mask in masks.items():
        error, cells = 0.0, 0
        for b in range(2):
            for y in range(mask.shape[2]):
                for x in range(mask.shape[3]):
                    if mask[b, 0, y, x]:
                        cells += 1
                        error += float((student[level][b, :, y, x] - teacher[level][b, :, y, x]).abs().mean())
        total += error / cells
    assert foreground_l1(student, teacher, masks).item() == pytest.approx(total, rel=1e-5)


def test_no_box_is_no_loss_with_a_gradient_of_zero():
    x = torch.randn(1, 3, 4, 4, requires_grad=True)
    loss = foreground_l1({"a": x}, {"a": torch.zeros(1, 3, 4, 4)}, {"a": boxes_to_mask([torch.zeros(0, 4)], 4, (4, 4))})
    loss.backward()
    assert loss.item() == 0
    assert x.grad is not None
    assert not x.grad.any()


def test_one_cell_in_a_hundred_weighs_a_hundred_and_one_times_a_background_cell():
    student = torch.zeros(1, 2, 10, 10, requires_grad=True)
    teacher, mask = torch.ones(1, 2, 10, 10), torch.zeros(1, 1, 10, 10)
    mask[..., 3, 4] = 1
    (pyramid_l1({"a": student}, {"a": teacher}) + foreground_l1({"a": student}, {"a": teacher}, {"a": mask})).backward()
    assert student.grad is not None
    assert student.grad[0, 0, 3, 4].item() / student.grad[0, 0, 0, 0].item() == pytest.approx(101)
