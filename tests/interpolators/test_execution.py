import copy
import shutil

import pytest
import torch

from featlift.interpolators import INTERPOLATORS, interpolator
from featlift.interpolators.execution import EXECUTION_MODES, use_checkpointing, use_compile
from featlift.interpolators.guide import needs_guide

SMALL = {"afi": {"growth_rate": 4}, "srf": {"num_blocks": 2}, "afi-rb": {"num_blocks": 2}}


def build(name):
    return interpolator(name, 8, **SMALL.get(name, {})).train()


def backward_results(module, x, *guides):
    """Output, gradients and all tensors after one forward and backward pass."""
    x = x.clone().requires_grad_()
    y = module(x, *guides)
    y.square().mean().backward()
    return [y, x.grad, *(p.grad for p in module.parameters()), *module.state_dict().values()]


@pytest.mark.parametrize("name", INTERPOLATORS)
def test_checkpointing_is_bitwise_equal(name):
    """Values, gradients, and batch-norm statistics, which the recomputation must not update a second time."""
    eager = build(name)
    module = use_checkpointing(copy.deepcopy(eager))
    x = torch.randn(2, 8, 5, 7)
    guides = [torch.randn(2, 8, 10, 14)] if needs_guide(eager) else []
    for a, b in zip(backward_results(eager, x, *guides), backward_results(module, x, *guides), strict=True):
        assert torch.equal(a, b)
    assert list(eager.state_dict()) == list(module.state_dict())
    assert torch.equal(eager.eval()(x, *guides), module.eval()(x, *guides))


def saved_bytes(module, x):
    """Bytes that the graph saves for the backward pass."""
    sizes = {}

    def pack(tensor):
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        module(x)
    parameters = {p.untyped_storage().data_ptr() for p in module.parameters()}
    return sum(size for pointer, size in sizes.items() if pointer not in parameters)


@pytest.mark.parametrize("name", ["afi", "srf"])
def test_checkpointing_saves_memory(name):
    module, x = build(name), torch.randn(1, 8, 32, 32, requires_grad=True)
    before = saved_bytes(module, x)
    assert saved_bytes(use_checkpointing(module), x) < before / 10


def test_a_copy_uses_its_own_parameters():
    first = use_checkpointing(build("afi"))
    second = copy.deepcopy(first)
    with torch.no_grad():
        for parameter in second.parameters():
            parameter.zero_()
    x = torch.randn(1, 8, 4, 4)
    assert not torch.equal(first(x), second(x))


@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler")
def test_compiled_equals_eager_at_any_size():
    eager = build("light")
    module = use_compile(copy.deepcopy(eager))
    for size in ((5, 7), (9, 4)):
        for a, b in zip(
            *(backward_results(module, torch.ones(1, 8, *size)) for module in (eager, module)), strict=True
        ):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)
        eager.zero_grad()
        module.zero_grad()
    assert list(eager.state_dict()) == list(module.state_dict())


def test_names():
    assert list(EXECUTION_MODES) == ["eager", "checkpointed", "compiled"]
