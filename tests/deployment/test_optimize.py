"""What is chosen is the fastest of those that are exact enough; time is told by the test."""

import copy
import pickle

import pytest
import torch
import torchvision

from featlift.checkpoints import load, save
from featlift.deployment import optimize
from featlift.deployment.optimize import OptimizedForward, optimize, restore
from featlift.deployment.variants import EAGER_VARIANTS, VARIANTS
from featlift.evaluation.profiling import Latency
from featlift.interpolators import interpolator
from featlift.interpolators.execution import use_checkpointing
from featlift.papers import baseline
from featlift.upgrading import upgrade

X = torch.randn(1, 8, 5, 6)


def afi(seed: int = 0) -> torch.nn.Module:
    """AFI of 8 channels whose branch matters."""
    torch.manual_seed(seed)
    return interpolator("afi", 8, growth=4).eval()


@pytest.fixture
def clock(monkeypatch):
    """Seconds of each form as the test says; forms of which it says nothing are slow."""

    def says(**seconds):
        times = {name: Latency(seconds.get(name.split(",")[0], 9.0), 0.0) for name in VARIANTS}
        monkeypatch.setattr(optimize, "latencies", lambda calls, rounds: {name: times[name] for name in calls})

    return says


@pytest.mark.parametrize(
    ("tolerance", "seconds", "chosen"),
    [
        (1e-4, {"plain": 1.0, "bf16": 0.1}, "plain"),
        (1e-4, {"plain": 1.0, "rewritten": 0.5, "bf16": 0.1}, "rewritten"),
        (5e-2, {"plain": 1.0, "rewritten": 0.5, "bf16": 0.1}, "bf16"),
    ],
)
def test_the_fastest_that_is_exact_enough(clock, tolerance, seconds, chosen):
    clock(**seconds)
    choice = optimize.find_fastest_variant(afi(), X, tolerance)
    assert choice.variant == chosen
    assert choice.speedup == pytest.approx(1.0 / seconds[chosen.split(",")[0]])
    assert str(choice).count("chosen") == 1
    assert ("not exact enough" in str(choice)) == (tolerance < 1e-2)


def test_errors_are_measured():
    trials = optimize.find_fastest_variant(afi(), X, rounds=1).timings
    assert set(trials) == set(EAGER_VARIANTS)
    for name, trial in trials.items():
        assert trial.latency_ms > 0
        assert (trial.relative_error > 1e-4) == ("bf16" in name)


def test_where_something_learns_nothing_is_another(clock):
    """With gradients, or in training, it is the module's own forward to the last bit; elsewhere it is the fast form."""
    clock(bf16=0.5)
    module, plain = afi(), afi()
    (choice,) = optimize(module, X, tolerance=5e-2)
    assert choice.variant.startswith("bf16")
    assert torch.equal(module(X), plain(X))
    with torch.no_grad():
        assert torch.equal(module.train()(X), plain(X))
        fast = module.eval()(X)
    assert not torch.equal(fast, plain(X))
    assert (fast - plain(X)).norm() / plain(X).norm() < 5e-2


def test_after_learning_the_fast_form_is_made_anew(clock):
    clock(rewritten=0.5)
    module = afi()
    optimize(module, X)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    with torch.inference_mode():
        before = module(X)
    module(X).square().mean().backward()
    optimizer.step()
    with torch.inference_mode():
        after, expected = module(X), type(module).forward(module, X)
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after, expected, rtol=1e-4, atol=1e-5)


def test_a_hastened_module_is_saved_copied_and_brought_back(clock, tmp_path):
    clock(rewritten=0.5)
    module, plain = afi(), afi()
    optimize(module, X)
    assert isinstance(module.forward, OptimizedForward)
    assert list(module.state_dict()) == list(plain.state_dict())
    torch.testing.assert_close(load(save(module, tmp_path / "G.safetensors")).eval()(X), plain(X))
    for copied in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert copied.forward.module is copied
        with torch.no_grad():
            torch.testing.assert_close(copied(X), plain(X), rtol=1e-4, atol=1e-5)
    assert "forward" not in restore(module).__dict__
    with torch.no_grad():
        assert torch.equal(module(X), plain(X))


def test_what_is_recomputed_in_training_still_is(clock):
    """`interpolators.running` has put its own forward there; copies and what is brought back have it, too."""
    clock(rewritten=0.5)
    module = use_checkpointing(afi())
    optimize(module, X)
    for one in (module, copy.deepcopy(module), restore(copy.deepcopy(module))):
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, sizes=sizes: sizes.append(t.numel()) or t, lambda t: t):
            one(X)
        assert sum(sizes) <= X.numel()
    assert restore(module).forward.__self__ is module


def test_a_detector_is_hastened_and_answers_the_same(clock):
    clock(rewritten=0.5)
    model = baseline.replace(
        baseline.quick_detector_config("afi"), channels=8, interpolator_options={"growth": 4},
        detector_options={"anchor_scale": 4.0, "width": 16, "proposals": 20},
    )  # fmt: skip
    detector, picture = baseline.build_detector(model, 3).eval(), torch.rand(3, 96, 64)
    with torch.no_grad():
        before = detector.backbone(picture[None])
        (choice,) = optimize(detector, [picture])
        after = detector.backbone(picture[None])
    assert choice.variant == "rewritten"
    for level, y in before.items():
        torch.testing.assert_close(after[level], y, rtol=1e-4, atol=1e-5)


def test_an_upgraded_pyramid_of_torchvision(clock):
    clock(rewritten=0.5)
    pyramid = torchvision.ops.FeaturePyramidNetwork([4, 8], 8)
    maps = {"c3": torch.randn(1, 4, 8, 6), "c4": torch.randn(1, 8, 4, 3)}
    upgrade(pyramid, "afi", growth=4, example_inputs=(maps,))
    (choice,) = optimize(pyramid.eval(), (maps,))
    assert choice.variant == "rewritten"


def test_while_it_is_compiled_or_exported_it_is_plain(clock):
    clock(bf16=0.5)
    module, plain = afi(), afi()
    optimize(module, X, tolerance=5e-2)
    with torch.no_grad():
        assert torch.equal(torch.export.export(module, (X,)).module()(X), plain(X))
        assert torch.equal(torch.jit.trace(module, X, check_trace=False)(X), plain(X))


def test_nothing_to_hasten():
    with pytest.raises(ValueError, match="No interpolator of FeatLift runs in this Conv2d"):
        optimize(torch.nn.Conv2d(8, 8, 1).eval(), X)


def test_what_learns_is_not_hastened():
    with pytest.raises(ValueError, match="call eval"):
        optimize(afi().train(), X)
