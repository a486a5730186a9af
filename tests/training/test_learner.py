import copy

import pytest
import torch
from torch import nn

from featlift.training import Learner, OptimizerConfig

PLAIN = {"momentum": 0.0, "weight_decay": 0.0}


def linear(seed: int = 0) -> nn.Linear:
    torch.manual_seed(seed)
    return nn.Linear(3, 1)


def batch(k: int, size: int = 4) -> torch.Tensor:
    return torch.rand(size, 3, generator=torch.Generator().manual_seed(k))


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_updates_equal_torch(optimizer):
    module, twin = linear(), linear()
    learner = Learner(module, OptimizerConfig(optimizer, lr=0.1, weight_decay=0.01, warmup_steps=3), total_steps=6)
    kinds = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    options = {"momentum": 0.9} if optimizer == "sgd" else {}
    theirs = kinds[optimizer](twin.parameters(), lr=0.1, weight_decay=0.01, **options)
    for k in range(6):
        losses = learner.step({"a": module(batch(k)).square().mean(), "b": module(batch(k + 50)).abs().mean()})
        a, b = twin(batch(k)).square().mean(), twin(batch(k + 50)).abs().mean()
        theirs.zero_grad()
        (a + b).backward()
        theirs.param_groups[0]["lr"] = 0.1 * [0.001, 0.334, 0.667, 1, 1, 1][k]
        theirs.step()
        assert (losses["a"], losses["b"]) == (a, b)
        assert not losses["a"].requires_grad
    torch.testing.assert_close(module.state_dict(), twin.state_dict())


@pytest.mark.parametrize(
    ("losses", "named"), [({"good": 1.0, "bad": float("nan")}, "bad"), ({"huge": float("inf")}, "huge")]
)
def test_a_loss_that_is_not_finite_is_named_and_nothing_moves(losses, named):
    module = linear()
    before = copy.deepcopy(module.state_dict())
    learner = Learner(module, OptimizerConfig(), 1)
    with pytest.raises(FloatingPointError, match=rf"At step 0 {named} is not finite \(.*Try a lower lr"):
        learner.step({name: module(batch(0)).mean() * value for name, value in losses.items()})
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())


def test_gradients_pass_through_the_discriminator_and_none_falls_on_it():
    G, D = linear(), nn.Linear(1, 1)
    generator, discriminator = Learner(G, OptimizerConfig(lr=1.0, **PLAIN), 1), Learner(D, OptimizerConfig(**PLAIN), 1)
    G_before, D_before = copy.deepcopy(G), copy.deepcopy(D)
    generator.step({"adversarial": D(G(batch(0))).mean()})
    assert all(p.grad is None for p in D.parameters())
    assert not discriminator.optimizer.state
    for p, q in zip(D.parameters(), D_before.parameters(), strict=True):
        assert torch.equal(p, q)
    expected = G_before.weight - D.weight * batch(0).mean(0, keepdim=True)  # d mean(w·G(x) + b) / dG.weight = w·mean(x)
    torch.testing.assert_close(G.weight, expected)


@pytest.mark.parametrize("max_grad_norm", [0.05, 100.0])
def test_clipping_bounds_the_norm_of_all_gradients_together(max_grad_norm):
    module = linear()
    before = torch.cat([p.detach().flatten().clone() for p in module.parameters()])
    Learner(module, OptimizerConfig(lr=1.0, max_grad_norm=max_grad_norm, **PLAIN), 1).step(
        {"loss": 3 * module(batch(0)).mean()}
    )
    step = before - torch.cat([p.detach().flatten() for p in module.parameters()])
    gradient = 3 * torch.cat([batch(0).mean(0), torch.ones(1)])
    torch.testing.assert_close(step, gradient * min(1.0, max_grad_norm / gradient.norm().item()), rtol=1e-5, atol=1e-6)


def test_accumulated_small_batches_are_the_big_batch():
    module, twin = linear(), linear()
    learner = Learner(module, OptimizerConfig(lr=0.1, accumulation_steps=3), 6)
    big = Learner(twin, OptimizerConfig(lr=0.1), 2)
    for k in range(6):
        learner.step({"loss": module(batch(k)).square().mean()})
    for k in (0, 3):
        big.step({"loss": twin(torch.cat([batch(k), batch(k + 1), batch(k + 2)])).square().mean()})
    assert (learner.num_updates, big.num_updates) == (2, 2)
    torch.testing.assert_close(module.state_dict(), twin.state_dict())


def test_what_is_left_at_the_end_makes_an_update_of_its_own():
    module, twin = linear(), linear()
    learner = Learner(module, OptimizerConfig(lr=0.1, accumulation_steps=4, **PLAIN), 2)
    for k in range(2):
        learner.step({"loss": module(batch(k)).square().mean()})
    Learner(twin, OptimizerConfig(lr=0.1, **PLAIN), 1).step(
        {"loss": twin(torch.cat([batch(0), batch(1)])).square().mean()}
    )
    torch.testing.assert_close(module.state_dict(), twin.state_dict())


def test_the_average_is_the_literal_loop_and_replaces_the_weights():
    module = linear()
    learner = Learner(module, OptimizerConfig(lr=0.5, ema_decay=0.7), 5)
    average = None
    for k in range(5):
        learner.step({"loss": module(batch(k)).square().mean()})
        w = module.weight.detach().clone()
        average = w if average is None else 0.7 * average + 0.3 * w
    assert torch.equal(module.weight, w)
    assert learner.apply_ema() is module
    torch.testing.assert_close(module.weight.detach(), average)
    assert not torch.equal(module.weight, w)


def test_without_an_average_the_module_as_it_is():
    for decay in (None, 0.9):
        module = linear()
        before = module.weight.detach().clone()
        assert torch.equal(Learner(module, OptimizerConfig(ema_decay=decay), 1).apply_ema().weight, before)


def test_a_parameter_without_a_part_in_the_loss_has_gradient_zero():
    module = nn.ModuleDict({"used": linear(), "unused": linear(1)})
    before = module["unused"].weight.detach().clone()
    learner = Learner(module, OptimizerConfig(lr=0.1, **PLAIN), 1)
    learner.step({"loss": module["used"](batch(0)).mean()})
    assert torch.equal(module["unused"].weight, before)


@pytest.mark.parametrize("detach", [True, False])
def test_losses_without_trainable_parameters_are_an_error(detach):
    module, other = linear(), linear(1)
    made = module(batch(0)).detach() if detach else other(batch(0))
    with pytest.raises(
        ValueError, match=r"No loss of adversarial, content depends on a parameter of this Linear.*detached"
    ):
        Learner(module, OptimizerConfig(), 1).step({"adversarial": made.mean(), "content": made.sum()})


def test_no_loss_is_an_error():
    with pytest.raises(ValueError, match="no loss"):
        Learner(linear(), OptimizerConfig(), 1).step({})


def test_scaled_gradients_are_unscaled_before_they_are_clipped():
    module, twin = linear(), linear()
    scaled = Learner(module, OptimizerConfig(lr=0.1, max_grad_norm=0.1), 3)
    scaled.to_device(torch.device("cpu"), "fp16")
    learner = Learner(twin, OptimizerConfig(lr=0.1, max_grad_norm=0.1), 3)
    for k in range(3):
        scaled.step({"loss": module(batch(k)).square().mean()})
        learner.step({"loss": twin(batch(k)).square().mean()})
    assert scaled.grad_scaler.get_scale() > 1
    torch.testing.assert_close(module.state_dict(), twin.state_dict())
