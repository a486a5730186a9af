import copy
import shutil

import pytest
import torch

from featlift.interpolators import INTERPOLATORS, interpolator
from featlift.interpolators.execution import EXECUTION_MODES, use_checkpointing, use_compile

SMALL = {"afi": {"growth": 4}, "srf": {"blocks": 2}, "afi-rb": {"blocks": 2}}


def made(name):
    return interpolator(name, 8, **SMALL.get(name, {})).train()


def learned(module, x):
    """Output, gradients and all tensors after one forward and backward pass."""
    x = x.clone().requires_grad_()
    y = module(x)
    y.square().mean().backward()
    return [y, x.grad, *(p.grad for p in module.parameters()), *module.state_dict().values()]


@pytest.mark.parametrize("name", INTERPOLATORS)
def test_recomputing_changes_nothing_to_the_last_bit(name):
    """Values, gradients, and batch-norm statistics, which a second forward would have moved twice."""
    plain = made(name)
    other = use_checkpointing(copy.deepcopy(plain))
    x = torch.randn(2, 8, 5, 7)
    for a, b in zip(learned(plain, x), learned(other, x), strict=True):
        assert torch.equal(a, b)
    assert list(plain.state_dict()) == list(other.state_dict())
    assert torch.equal(plain.eval()(x), other.eval()(x))


def kept(module, x):
    """Bytes that the graph keeps for the backward pass."""
    seen = {}

    def pack(tensor):
        seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        module(x)
    parameters = {p.untyped_storage().data_ptr() for p in module.parameters()}
    return sum(size for place, size in seen.items() if place not in parameters)


@pytest.mark.parametrize("name", ["afi", "srf"])
def test_hardly_anything_is_kept(name):
    module, x = made(name), torch.randn(1, 8, 32, 32, requires_grad=True)
    before = kept(module, x)
    assert kept(use_checkpointing(module), x) < before / 10


def test_a_copy_answers_for_itself():
    first = use_checkpointing(made("afi"))
    second = copy.deepcopy(first)
    with torch.no_grad():
        for parameter in second.parameters():
            parameter.zero_()
    x = torch.randn(1, 8, 4, 4)
    assert not torch.equal(first(x), second(x))


@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler")
def test_compiled_equals_eager_at_any_size():
    plain = made("light")
    other = use_compile(copy.deepcopy(plain))
    for size in ((5, 7), (9, 4)):
        for a, b in zip(learned(plain, torch.ones(1, 8, *size)), learned(other, torch.ones(1, 8, *size)), strict=True):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)
        plain.zero_grad()
        other.zero_grad()
    assert list(plain.state_dict()) == list(other.state_dict())


def test_names():
    assert list(EXECUTION_MODES) == ["plain", "recomputed", "compiled"]
