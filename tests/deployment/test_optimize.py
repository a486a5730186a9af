"""The fastest variant within the tolerance is selected; latencies are set by the test."""

import copy
import pickle
from dataclasses import replace

import pytest
import torch
import torchvision

from featlift.checkpoints import load, save
from featlift.deployment.optimize import OptimizedForward, find_fastest_variant, optimize, restore
from featlift.deployment.variants import EAGER_VARIANTS, VARIANTS
from featlift.detectors.config import build_detector, quick_detector_config
from featlift.interpolators import interpolator
from featlift.interpolators.execution import use_checkpointing
from featlift.profiling import Latency
from featlift.upgrading import upgrade

X = torch.randn(1, 8, 5, 6)


def afi(seed: int = 0) -> torch.nn.Module:
    """AFI of 8 channels with a non-zero branch."""
    torch.manual_seed(seed)
    return interpolator("afi", 8, growth_rate=4).eval()


@pytest.fixture
def clock(monkeypatch):
    """Sets the seconds of each variant; the others are slow."""

    def set_seconds(**seconds):
        times = {name: Latency(seconds.get(name.split(",")[0], 9.0), 0.0) for name in VARIANTS}
        monkeypatch.setattr(
            "featlift.deployment.optimize.measure_latencies",
            lambda calls, rounds: {name: times[name] for name in calls},
        )

    return set_seconds


@pytest.mark.parametrize(
    ("tolerance", "seconds", "expected"),
    [
        (1e-4, {"plain": 1.0, "bf16": 0.1}, "plain"),
        (1e-4, {"plain": 1.0, "fused": 0.5, "bf16": 0.1}, "fused"),
        (5e-2, {"plain": 1.0, "fused": 0.5, "bf16": 0.1}, "bf16"),
    ],
)
def test_the_fastest_that_is_exact_enough(clock, tolerance, seconds, expected):
    clock(**seconds)
    choice = find_fastest_variant(afi(), X, tolerance)
    assert choice.variant == expected
    assert choice.speedup == pytest.approx(1.0 / seconds[expected.split(",")[0]])
    assert str(choice).count("chosen") == 1
    assert ("not exact enough" in str(choice)) == (tolerance < 1e-2)


def test_errors_are_measured():
    timings = find_fastest_variant(afi(), X, rounds=1).timings
    assert set(timings) == set(EAGER_VARIANTS)
    for name, timing in timings.items():
        assert timing.latency_ms > 0
        assert (timing.relative_error > 1e-4) == ("bf16" in name)


def test_training_uses_the_original_forward(clock):
    """With gradients or in training mode the output is bitwise that of the original forward; otherwise that of the variant."""
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


def test_the_variant_is_rebuilt_after_a_weight_update(clock):
    clock(fused=0.5)
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


def test_an_optimized_module_is_saved_copied_and_restored(clock, tmp_path):
    clock(fused=0.5)
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


def test_checkpointing_in_training_is_kept(clock):
    """`interpolators.execution` replaces the forward of the instance; copies and restored modules keep it."""
    clock(fused=0.5)
    module = use_checkpointing(afi())
    optimize(module, X)
    for candidate in (module, copy.deepcopy(module), restore(copy.deepcopy(module))):
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, sizes=sizes: sizes.append(t.numel()) or t, lambda t: t):
            candidate(X)
        assert sum(sizes) <= X.numel()
    assert restore(module).forward.__self__ is module


def test_an_optimized_detector_has_the_same_outputs(clock):
    clock(fused=0.5)
    model = replace(
        quick_detector_config("afi"), pyramid_channels=8, interpolator_options={"growth_rate": 4},
        detector_options={"anchor_scale": 4.0, "fc_dim": 16, "num_proposals": 20},
    )  # fmt: skip
    detector, image = build_detector(model, 3).eval(), torch.rand(3, 96, 64)
    with torch.no_grad():
        before = detector.backbone(image[None])
        (choice,) = optimize(detector, [image])
        after = detector.backbone(image[None])
    assert choice.variant == "fused"
    for level, y in before.items():
        torch.testing.assert_close(after[level], y, rtol=1e-4, atol=1e-5)


def test_an_upgraded_pyramid_of_torchvision(clock):
    clock(fused=0.5)
    pyramid = torchvision.ops.FeaturePyramidNetwork([4, 8], 8)
    maps = {"c3": torch.randn(1, 4, 8, 6), "c4": torch.randn(1, 8, 4, 3)}
    upgrade(pyramid, "afi", growth_rate=4, example_inputs=(maps,))
    (choice,) = optimize(pyramid.eval(), (maps,))
    assert choice.variant == "fused"


def test_compilers_and_exporters_get_the_original_forward(clock):
    clock(bf16=0.5)
    module, plain = afi(), afi()
    optimize(module, X, tolerance=5e-2)
    with torch.no_grad():
        assert torch.equal(torch.export.export(module, (X,)).module()(X), plain(X))
        assert torch.equal(torch.jit.trace(module, X, check_trace=False)(X), plain(X))


def test_a_model_without_interpolators():
    with pytest.raises(ValueError, match="No interpolator of FeatLift runs in this Conv2d"):
        optimize(torch.nn.Conv2d(8, 8, 1).eval(), X)


def test_a_model_in_training_mode_is_rejected():
    with pytest.raises(ValueError, match="call eval"):
        optimize(afi().train(), X)
