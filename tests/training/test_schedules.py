"""The papers' learning rates by step."""

import pytest

from featlift.training.schedules import STEPS_1X, STEPS_3X, adamw_3x, finetune_optimizer, quick_optimizer, sgd_1x


@pytest.mark.parametrize("lr", [0.02, 0.01])
def test_the_1x_schedule_drops_after_two_thirds_and_eight_ninths(lr):
    rates = [sgd_1x(lr).lr_at(step, STEPS_1X) for step in (1_000, 59_999, 60_000, 79_999, 80_000)]
    assert rates == pytest.approx([lr, lr, lr / 10, lr / 10, lr / 100])
    assert sgd_1x(lr).lr_at(0, STEPS_1X) < lr / 100


def test_the_3x_schedule_of_transformers():
    rates = [adamw_3x().lr_at(step, STEPS_3X) for step in (1_000, 209_999, 210_000, 249_999, 250_000)]
    assert rates == pytest.approx([1e-4, 1e-4, 1e-5, 1e-5, 1e-6])
    assert (adamw_3x().name, adamw_3x().weight_decay) == ("adamw", 0.05)


def test_fine_tuning_has_the_1x_rate_of_four_images():
    optimizer = finetune_optimizer()
    assert optimizer.lr == pytest.approx(sgd_1x().lr * 4 / 16)
    assert (optimizer.name, optimizer.warmup_steps, optimizer.milestones) == ("sgd", 500, sgd_1x().milestones)


def test_the_quick_schedule_ends_near_zero():
    optimizer = quick_optimizer(1e-2)
    assert optimizer.lr_at(10, 100) == pytest.approx(1e-2, rel=0.05)
    assert optimizer.lr_at(99, 100) < 1e-4
