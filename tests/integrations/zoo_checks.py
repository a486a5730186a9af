"""What an upgraded network of the zoo must do. Each check returns nothing or fails; the results are one row of ``docs/supported.md``."""

import copy
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.integrations.zoo import ZooEntry, noise, random_network
from torch import Tensor, nn

from featlift.deployment.export import export_detector
from featlift.deployment.export_network import export_network
from featlift.upgrading import UpgradeReport, added_parameters, downgrade, load_delta, save_delta, upgrade
from featlift.upgrading.dataflow import iterate_tensors
from featlift.upgrading.example_run import example_arguments


def run(model: nn.Module, inputs: Any) -> list[Tensor]:
    """Return the tensors in the outputs."""
    args, kwargs = example_arguments(model, inputs)
    return [x for x in iterate_tensors(model(*args, **kwargs)) if x.numel()]


@torch.no_grad()
def outputs_at_all_sizes(entry: ZooEntry, model: nn.Module) -> list[list[Tensor]]:
    """Return the outputs on an image of each size of the entry."""
    return [[x.clone() for x in run(model, make_inputs(entry, size))] for size in entry.sizes]


def make_inputs(entry: ZooEntry, size: tuple[int, int]) -> Any:
    """Return the inputs of the entry for an image of (H, W) pixels."""
    return entry.make_inputs(size) if entry.make_inputs else noise(size)


def is_same(a: list[list[Tensor]], b: list[list[Tensor]]) -> bool:
    """Return whether all tensors are equal bit by bit."""
    if [len(x) for x in a] != [len(x) for x in b]:
        return False
    pairs = [(x, y) for xs, ys in zip(a, b, strict=True) for x, y in zip(xs, ys, strict=True)]
    return all(x.shape == y.shape and torch.allclose(x, y, rtol=0, atol=0, equal_nan=True) for x, y in pairs)


def check_upgraded(entry: ZooEntry) -> UpgradeReport:
    """Upgrade the network and check places, outputs, gradients, copies, the delta and the downgrade."""
    model = random_network(entry.build)
    original = copy.deepcopy(model)
    before = outputs_at_all_sizes(entry, model)
    report = upgrade(model, "light", example_inputs=make_inputs(entry, entry.sizes[0]))
    assert (len(report.rows), report.neck) == (entry.steps, entry.neck), f"{report}"
    assert is_same(outputs_at_all_sizes(entry, model), before), "outputs changed by the upgrade"
    check_gradients(entry, model)
    with torch.no_grad():
        for parameter in added_parameters(model).values():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    trained = outputs_at_all_sizes(entry, model)
    assert not is_same(trained, before), "the adapters have no effect"
    assert is_same(outputs_at_all_sizes(entry, copy.deepcopy(model)), trained), "a copy differs"
    check_delta(entry, model, original, trained)
    downgrade(model)
    assert is_same(outputs_at_all_sizes(entry, model), before), "outputs changed by the downgrade"
    assert list(model.state_dict()) == list(original.state_dict())
    assert [type(m) for m in model.modules()] == [type(m) for m in original.modules()]
    return report


def check_gradients(entry: ZooEntry, model: nn.Module) -> None:
    """Every added parameter gets a gradient, and the last layer of every adapter one that is not zero."""
    with torch.enable_grad():
        outputs = [x for x in run(model, make_inputs(entry, entry.sizes[0])) if x.requires_grad]
        loss = sum((x.nan_to_num(posinf=0, neginf=0).float() * torch.rand(x.shape)).sum() for x in outputs)
        torch.as_tensor(loss).backward()
    gradients = {name: parameter.grad for name, parameter in added_parameters(model).items()}
    missing = [name for name, gradient in gradients.items() if gradient is None]
    assert not missing, f"no gradient: {missing}"
    moved = {
        name.rpartition(".branch.")[0]
        for name, gradient in gradients.items()
        if gradient is not None and gradient.any()
    }
    assert moved == {name.rpartition(".branch.")[0] for name in gradients}, "an adapter has only zero gradients"
    model.zero_grad(set_to_none=True)


def check_delta(entry: ZooEntry, model: nn.Module, original: nn.Module, trained: list[list[Tensor]]) -> None:
    """The delta on a fresh copy of the original network gives the outputs of ``model``."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "delta.safetensors"
        save_delta(model, path)
        fresh = copy.deepcopy(original)
        load_delta(fresh, path, example_inputs=make_inputs(entry, entry.sizes[0]))
    assert is_same(outputs_at_all_sizes(entry, fresh), trained), "outputs after save_delta and load_delta differ"


def check_refused(entry: ZooEntry) -> str:
    """The network is refused and stays as it is; returns what was seen, from the message."""
    model = random_network(entry.build)
    keys = list(model.state_dict())
    with pytest.raises(ValueError, match="has nothing that upsamples a feature map by 2") as error:
        upgrade(model, "light", example_inputs=make_inputs(entry, entry.sizes[0]))
    assert list(model.state_dict()) == keys
    return str(error.value).partition("any other code: ")[2]


def check_onnx(entry: ZooEntry) -> str:
    """Export the network with trained adapters; "equal" if onnxruntime gives its outputs, else the plain network must fail, too."""
    model = random_network(entry.build)
    upgrade(model, "light", example_inputs=make_inputs(entry, entry.sizes[0]))
    with torch.no_grad():
        for parameter in added_parameters(model).values():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    problem = export_problem(entry, model)
    if not problem:
        return "equal"
    plain_problem = export_problem(entry, random_network(entry.build))
    assert plain_problem, f"ONNX: the plain network is exported, the upgraded one is not: {problem}"
    return f"neither ({plain_problem})"


def export_problem(entry: ZooEntry, model: nn.Module) -> str:
    """Export ``model`` for the first size and compare onnxruntime's outputs; return what is wrong, empty if nothing is."""
    inputs = make_inputs(entry, entry.sizes[0])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        try:
            if isinstance(inputs, list):
                export_detector(model, inputs, path)
            else:
                export_network(OneInput(model, inputs), entry.sizes[0], path)
        except Exception as error:  # an exporter may raise anything
            while error.__cause__ is not None:  # the exporter's own error only says that it failed
                error = error.__cause__
            return f"{type(error).__name__}: {str(error).strip().splitlines()[0][:120]}".replace("|", "/")
    return ""


class OneInput(nn.Module):
    """A network with an image as its only input; the other keyword arguments of ``inputs`` are constants."""

    def __init__(self, network: nn.Module, inputs: Any) -> None:
        super().__init__()
        self.network = network
        self.rest = {k: v for k, v in inputs.items() if k != "pixel_values"} if isinstance(inputs, dict) else {}

    def forward(self, x: Tensor) -> Any:
        """``[B, 3, H, W]`` → the outputs of the network."""
        return self.network(x, **self.rest)
