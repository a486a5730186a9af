import pytest
import torch

from featlift.losses_fdsr_part import feature_mse, pixel_l1


def maps():
    return {"a": torch.randn(2, 3, 4, 5), "b": torch.randn(2, 6, 2, 3)}


def test_pixel_l1_by_hand():
    assert pixel_l1(torch.tensor([[0.0, 1.0]]), torch.tensor([[0.5, 0.25]])).item() == pytest.approx(0.625)


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("scale_free", [False, True])
def test_feature_mse_by_loop(power, scale_free):
    student, teacher = maps(), maps()
    total = 0.0
    for level, target in teacher.items():
        rows = []
        for mine, theirs in zip(student[level].tolist(), target.tolist(), strict=True):
            mine, theirs = torch.tensor(mine).flatten().tolist(), torch.tensor(theirs).flatten().tolist()
            apart = sum((m - t) ** 2 for m, t in zip(mine, theirs, strict=True)) / len(theirs)
            size = sum(t**2 for t in theirs) / len(theirs)
            apart, size = (apart, size) if power == 2 else (apart**0.5, size**0.5)
            rows.append(apart / size if scale_free else apart)
        total += sum(rows) / len(rows)
    assert feature_mse(student, teacher, power, scale_free).item() == pytest.approx(total, rel=1e-5)


def test_scale_free_does_not_care_for_the_scale():
    student, teacher = maps(), maps()
    ten_times = [{name: 10 * x for name, x in side.items()} for side in (student, teacher)]
    assert feature_mse(ten_times[0], ten_times[1], scale_free=True).item() == pytest.approx(
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


def test_misuse():
    with pytest.raises(ValueError, match="power"):
        feature_mse(maps(), maps(), 3)
    with pytest.raises(ValueError, match="every level"):
        feature_mse({}, maps())
