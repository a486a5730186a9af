"""FSR-GAN's losses against explicit loops and numbers computed by hand."""

import math

import pytest
import torch

from featlift.retrieval.losses import (
    clip_weights,
    focal_distance,
    gan_discriminator_loss,
    gan_generator_loss,
    gradient_penalty,
    relative_distance,
    wasserstein_critic_loss,
    wasserstein_generator_loss,
)

REAL, FAKE = torch.tensor([0.5, -1.0, 2.0]), torch.tensor([1.5, 0.0, -3.0])


def sigmoid(z):
    return 1 / (1 + math.exp(-z))


@pytest.mark.parametrize("r", [1.0, 1.5, 2.0, 3.0])
def test_focal_distance_is_the_mean_of_powers(r):
    a, b = torch.randn(7, 5, dtype=torch.double), torch.randn(7, 5, dtype=torch.double)
    literal = 0.0
    for i in range(7):
        distance = math.sqrt(sum((float(a[i, j]) - float(b[i, j])) ** 2 for j in range(5)))
        literal += distance**r / 7
    assert focal_distance(a, b, r).item() == pytest.approx(literal, rel=1e-12)


@pytest.mark.parametrize("r", [1.0, 2.0])
def test_relative_distance_is_the_mean_of_powers_of_ratios(r):
    a, low, b = (torch.randn(7, 5, dtype=torch.double) for _ in range(3))
    literal = 0.0
    for i in range(7):
        error = math.sqrt(sum((float(a[i, j]) - float(b[i, j])) ** 2 for j in range(5)))
        initial = math.sqrt(sum((float(low[i, j]) - float(b[i, j])) ** 2 for j in range(5)) + 0.3**2)
        literal += (error / initial) ** r / 7
    assert relative_distance(a, low, b, r, min_distance=0.3).item() == pytest.approx(literal, rel=1e-12)


def test_focal_distance_has_larger_gradients_at_larger_distances():
    """‖∇‖ of one sample is r·dʳ⁻¹/m: equal for r = 1, growing with the distance for r = 2."""
    target = torch.zeros(2, 3)
    for r, expected in ((1.0, 1.0), (2.0, 4.0)):
        x = torch.tensor([[1.0, 0, 0], [0, 4.0, 0]], requires_grad=True)
        focal_distance(x, target, r).backward()
        lengths = x.grad.norm(dim=1)
        assert (lengths[1] / lengths[0]).item() == pytest.approx(expected)


@pytest.mark.parametrize("r", [1.0, 2.0])
def test_focal_distance_of_equal_descriptors(r):
    x = torch.ones(2, 3, requires_grad=True)
    loss = focal_distance(x, torch.ones(2, 3), r)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-18)
    assert torch.equal(x.grad, torch.zeros(2, 3))


def test_focal_exponent_below_one():
    with pytest.raises(ValueError, match="at least 1"):
        focal_distance(REAL[None], FAKE[None], 0.5)


def test_equations_4_to_7():
    eq4 = sum(math.log(1 - sigmoid(z)) for z in FAKE.tolist()) / 3
    eq5 = -sum(math.log(sigmoid(z)) for z in REAL.tolist()) / 3 - eq4
    assert gan_generator_loss(FAKE).item() == pytest.approx(eq4, rel=1e-5)
    assert gan_discriminator_loss(REAL, FAKE).item() == pytest.approx(eq5, rel=1e-5)
    assert wasserstein_generator_loss(FAKE).item() == pytest.approx(0.5)
    assert wasserstein_critic_loss(REAL, FAKE).item() == pytest.approx(-0.5 - 0.5)


@pytest.mark.parametrize(("slope", "penalty"), [(1.0, 0.0), (3.0, 4.0), (0.0, 1.0)])
def test_gradient_penalty_of_a_linear_critic(slope, penalty):
    weight = torch.tensor(slope, requires_grad=True)
    loss = gradient_penalty(lambda x: weight * x[:, 0], torch.rand(5, 4), torch.rand(5, 4))
    assert loss.item() == pytest.approx(penalty)
    loss.backward()
    assert weight.grad.item() == pytest.approx(2 * (slope - 1) if slope else 0.0)


def test_clipping():
    critic = torch.nn.Linear(3, 2)
    torch.nn.init.constant_(critic.weight, 5.0)
    torch.nn.init.constant_(critic.bias, -0.004)
    clip_weights(critic, 0.01)
    assert critic.weight.unique().item() == pytest.approx(0.01)
    assert critic.bias.unique().item() == pytest.approx(-0.004)
