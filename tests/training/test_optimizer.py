import math

import pytest
import torch
from torch import nn

from featlift.training import OptimizerConfig

STEPS = 100


@pytest.mark.parametrize(
    ("config", "rates"),
    [
        (OptimizerConfig(lr=0.5), {0: 0.5, 57: 0.5, 99: 0.5}),
        (OptimizerConfig(lr=1.0, warmup_steps=10), {0: 0.001, 1: 0.1009, 5: 0.5005, 9: 0.9001, 10: 1.0, 99: 1.0}),
        (
            OptimizerConfig(lr=2.0, schedule="multistep", milestones=(60, 80), gamma=0.1),
            {0: 2.0, 59: 2.0, 60: 0.2, 79: 0.2, 80: 0.02, 99: 0.02},
        ),
        (OptimizerConfig(lr=1.0, schedule="multistep", milestones=(0.5,), gamma=0.5), {49: 1.0, 50: 0.5}),
        (
            OptimizerConfig(lr=1.0, schedule="multistep", milestones=(5,), gamma=0.1, warmup_steps=10),
            {4: 0.4006, 5: 0.05005, 10: 0.1},
        ),
        (
            OptimizerConfig(lr=1.0, schedule="cosine"),
            {0: 1.0, 25: (1 + math.sqrt(0.5)) / 2, 50: 0.5, 75: (1 - math.sqrt(0.5)) / 2},
        ),
    ],
)
def test_rates_are_those_computed_by_hand(config, rates):
    for step, expected in rates.items():
        assert config.lr_at(step, STEPS) == pytest.approx(expected, rel=1e-9), f"at step {step}"


@pytest.mark.parametrize("kind", ["linear warm-up and steps", "cosine"])
def test_schedules_agree_with_torch(kind):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
    if kind == "cosine":
        config = OptimizerConfig(lr=0.3, schedule="cosine")
        reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    else:
        config = OptimizerConfig(lr=0.3, schedule="multistep", milestones=(30, 70), warmup_steps=8)
        warm = torch.optim.lr_scheduler.LinearLR(optimizer, 1 / 1000, total_iters=8)
        steps = torch.optim.lr_scheduler.MultiStepLR(optimizer, [30, 70])
        reference = torch.optim.lr_scheduler.ChainedScheduler([warm, steps])
    for step in range(STEPS):
        assert config.lr_at(step, STEPS) == pytest.approx(reference.get_last_lr()[0], rel=1e-6)
        optimizer.step()
        reference.step()


@pytest.mark.parametrize(("name", "kind"), [("sgd", "SGD"), ("adam", "Adam"), ("adamw", "AdamW")])
def test_the_optimizer_has_the_configured_options(name, kind):
    optimizer = OptimizerConfig(name, lr=0.1, momentum=0.8, betas=(0.5, 0.9), weight_decay=0.01).build_optimizer(
        nn.Linear(2, 2)
    )
    assert type(optimizer).__name__ == kind
    group = optimizer.param_groups[0]
    assert group["lr"] == 0.1
    assert group["weight_decay"] == 0.01
    assert group["momentum"] == 0.8 if name == "sgd" else group["betas"] == (0.5, 0.9)


def test_norms_and_biases_can_be_spared_from_decay():
    module = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.GroupNorm(2, 4), nn.LayerNorm(4), nn.Linear(4, 2, bias=False)
    )
    decayed, spared = (
        OptimizerConfig(weight_decay=0.1, decay_norms_and_biases=False).build_optimizer(module).param_groups
    )
    assert {id(p) for p in decayed["params"]} == {id(module[0].weight), id(module[4].weight)}
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
    assert len(spared["params"]) == 7
    assert len(OptimizerConfig(weight_decay=0.1).build_optimizer(module).param_groups[0]["params"]) == 9


def test_only_parameters_that_require_gradients_and_once_each():
    shared = nn.Linear(2, 2)
    module = nn.ModuleList([shared, shared, nn.Linear(2, 2).requires_grad_(False)])
    (group,) = OptimizerConfig().build_optimizer(module).param_groups
    assert [id(p) for p in group["params"]] == [id(shared.weight), id(shared.bias)]


def test_nothing_to_learn_is_an_error():
    with pytest.raises(ValueError, match=r"Upsample has no parameter with requires_grad=True.*nearest"):
        OptimizerConfig().build_optimizer(nn.Upsample(scale_factor=2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "adamx"}, "Unknown optimizer 'adamx'; choose one of sgd, adam, adamw"),
        ({"schedule": "linear"}, "Unknown schedule 'linear'; choose one of constant, multistep, cosine"),
        ({"schedule": "multistep"}, "needs milestones"),
        ({"lr": 0.0}, "lr is 0.0; it must be above 0"),
        ({"max_grad_norm": -1.0}, "max_grad_norm is -1.0"),
        ({"ema_decay": 1.0}, "ema_decay is 1.0"),
        ({"accumulation_steps": 0}, "accumulation_steps is 0"),
        ({"warmup_steps": -1}, "warmup_steps is -1"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        OptimizerConfig(**options)
