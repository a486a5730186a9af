import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from featlift.checkpoints.fingerprint import tensors_fingerprint
from featlift.checkpoints.tensors import read_metadata
from featlift.upgrading import added_parameters, downgrade, load_delta, save_delta, upgrade
from featlift.upgrading.wrappers import unwrap_module

FOREIGN = {"pyramid": "", "yolo": "", "rtdetr": "", "rtdetr_with_masks": "encoder"}


def names(path: Path) -> set[str]:
    with safe_open(path, framework="pt") as file:
        return set(file.keys())


def same_state(a: nn.Module, b: nn.Module) -> bool:
    first, second = a.state_dict(), b.state_dict()
    return list(first) == list(second) and all(torch.equal(x, second[name]) for name, x in first.items())


@pytest.mark.parametrize("network", FOREIGN)
@pytest.mark.parametrize("name", ["srf", "deconv", "carafe"])
def test_a_delta_brings_back_what_was_trained(name: str, network: str, request: pytest.FixtureRequest, tmp_path: Path):
    model = request.getfixturevalue(network)
    original = copy.deepcopy(model)
    upgrade(model, name, neck=FOREIGN[network])
    old = next(n for n, _ in model.named_parameters() if ".added" not in n)
    with torch.no_grad():
        for parameter in [*added_parameters(model).values(), model.get_parameter(old)]:
            parameter.add_(0.1)
    save_delta(model, tmp_path / "delta.safetensors")
    expected = {n for n in model.state_dict() if n not in original.state_dict()} | {old}
    assert names(tmp_path / "delta.safetensors") == expected
    assert [file.name for file in tmp_path.iterdir()] == ["delta.safetensors"]
    fresh = copy.deepcopy(original)
    load_delta(fresh, tmp_path / "delta.safetensors")
    assert same_state(fresh, model)
    with torch.no_grad():
        for parameter in fresh.parameters():
            parameter.mul_(2)
    load_delta(fresh, tmp_path / "delta.safetensors")
    assert same_state(fresh, model)
    downgrade(fresh)
    assert same_state(fresh, original)


def test_another_base_is_rejected_unless_strict_is_false(pyramid: nn.Module, tmp_path: Path):
    other = copy.deepcopy(pyramid)
    with torch.no_grad():
        next(other.parameters()).add_(1)
    upgrade(pyramid, "deconv")
    save_delta(pyramid, tmp_path / "delta")
    with pytest.raises(ValueError, match=r"trained on a BackboneWithFPN with other weights.*strict=False"):
        load_delta(other, tmp_path / "delta")
    assert not any(".added" in name for name in other.state_dict())
    load_delta(other, tmp_path / "delta", strict=False)
    for name, parameter in added_parameters(pyramid).items():
        assert torch.equal(parameter, other.get_parameter(name))


def test_another_upgrade_is_refused_and_nothing_changes(pyramid: nn.Module, yolo: nn.Module, tmp_path: Path):
    original = copy.deepcopy(pyramid)
    upgrade(pyramid, "deconv")
    save_delta(pyramid, tmp_path / "delta")
    downgrade(pyramid)
    upgrade(pyramid, "pixel-shuffle")
    before = copy.deepcopy(pyramid.state_dict())
    with pytest.raises(ValueError, match=r"another upgrade. File: deconv.*model: pixel-shuffle"):
        load_delta(pyramid, tmp_path / "delta")
    assert all(torch.equal(x, before[name]) for name, x in pyramid.state_dict().items())
    with pytest.raises(ValueError, match="another upgrade"):
        load_delta(yolo, tmp_path / "delta", strict=False)
    assert type(yolo.model[3]) is nn.Upsample  # type: ignore[index]
    downgrade(pyramid)
    assert same_state(pyramid, original)


def test_what_is_no_delta_or_not_upgraded(pyramid: nn.Module, tmp_path: Path):
    save_file({"x": torch.zeros(1)}, tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match=r"but not a delta\. Pass a file written by save_delta"):
        load_delta(pyramid, tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match="is not upgraded"):
        save_delta(pyramid, tmp_path / "delta")
    assert not (tmp_path / "delta").exists()


def test_a_failed_write_leaves_the_old_file(pyramid: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    upgrade(pyramid, "deconv")
    save_delta(pyramid, tmp_path / "delta")
    before = (tmp_path / "delta").read_bytes()

    def half(tensors: object, path: Path, about: object) -> None:
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("featlift.checkpoints.tensors.save_file", half)
    with pytest.raises(OSError, match="disk full"):
        save_delta(pyramid, tmp_path / "delta")
    assert (tmp_path / "delta").read_bytes() == before


@pytest.mark.parametrize("wrapper", ["parallel", "compiled", "averaged"])
def test_a_delta_of_a_wrapped_model_loads_onto_the_bare_one(wrapper: str, yolo: nn.Module, tmp_path: Path):
    wrap = {
        "parallel": nn.DataParallel,
        "compiled": lambda m: torch.compile(m, backend="eager"),
        "averaged": AveragedModel,
    }
    bare = copy.deepcopy(yolo)
    upgrade(yolo, "light")
    wrapped = wrap[wrapper](yolo)
    train(unwrap_module(wrapped))
    save_delta(wrapped, tmp_path / "delta")
    assert not [name for name in names(tmp_path / "delta") if "module" in name or "_orig_mod" in name]
    load_delta(bare, tmp_path / "delta")
    assert same_state(bare, unwrap_module(wrapped))
    other = wrap[wrapper](copy.deepcopy(bare))
    downgrade(other)
    load_delta(other, tmp_path / "delta")
    assert same_state(unwrap_module(other), bare)


def test_a_wrapper_can_be_upgraded_itself(yolo: nn.Module, tmp_path: Path):
    bare = copy.deepcopy(yolo)
    wrapped = nn.DataParallel(yolo)
    upgrade(wrapped, "light")
    assert all(not name.startswith("module.") for name in added_parameters(wrapped))
    train(yolo)
    save_delta(wrapped, tmp_path / "delta")
    load_delta(bare, tmp_path / "delta")
    assert same_state(bare, yolo)


def test_a_fully_trained_model_needs_no_base(yolo: nn.Module, tmp_path: Path):
    other = copy.deepcopy(yolo)
    upgrade(yolo, "light")
    for network in (yolo, other):
        with torch.no_grad():
            for name, x in network.state_dict().items():
                x.add_(len(name))
    with torch.no_grad():
        next(other.parameters()).add_(1)
    save_delta(yolo, tmp_path / "delta")
    load_delta(other, tmp_path / "delta")
    assert same_state(other, yolo)


@pytest.mark.parametrize("keep", [True, False])
def test_pickles_do_not_contain_the_original_weights(keep: bool, tmp_path: Path):
    model, example = Wide().eval(), torch.rand(1, 3, 64, 64)
    original, plain = copy.deepcopy(model), pickled_size(model, tmp_path)
    upgrade(model, "light", example_inputs=example, keep_weights=keep)
    added = sum(p.nbytes for p in added_parameters(model).values())
    train(model)
    assert plain < pickled_size(model, tmp_path) < plain + added + 10_000
    pickled = torch.load(tmp_path / "model.pt", weights_only=False)
    save_delta(model, tmp_path / "delta")
    save_delta(pickled, tmp_path / "pickled_delta")
    assert read_metadata(tmp_path / "delta") == read_metadata(tmp_path / "pickled_delta")
    assert names(tmp_path / "delta") == names(tmp_path / "pickled_delta")
    assert (tmp_path / "delta").stat().st_size < added + 5_000 + next(model.parameters()).nbytes
    load_delta(original, tmp_path / "pickled_delta")
    assert same_state(original, model)
    load_delta(pickled, tmp_path / "delta")
    assert same_state(pickled, model)


def test_a_pickled_model_cannot_take_a_delta_back_onto_weights_that_it_lost(yolo: nn.Module, tmp_path: Path):
    upgrade(yolo, "light", keep_weights=False)
    save_delta(yolo, tmp_path / "delta")
    train(yolo)
    before = copy.deepcopy(yolo.state_dict())
    with pytest.raises(ValueError, match="with other weights"):
        load_delta(yolo, tmp_path / "delta")
    assert all(torch.equal(x, before[name]) for name, x in yolo.state_dict().items())


def test_the_example_inputs_are_stored(rtdetr: nn.Module, tmp_path: Path):
    strict_model = FixedSize(rtdetr)
    fresh = copy.deepcopy(strict_model)
    with pytest.raises(ValueError, match="wants 64x96"):
        upgrade(strict_model, "light")
    upgrade(strict_model, "light", example_inputs=(torch.rand(1, 3, 64, 96), 2.0))
    train(strict_model)
    save_delta(strict_model, tmp_path / "delta")
    load_delta(fresh, tmp_path / "delta")
    assert same_state(fresh, strict_model)


def test_deltas_of_the_first_format_are_read(yolo: nn.Module, tmp_path: Path):
    plain, other = copy.deepcopy(yolo), copy.deepcopy(yolo)
    upgrade(yolo, "light")
    train(yolo)
    save_delta(yolo, tmp_path / "delta")
    with safe_open(tmp_path / "delta", framework="pt") as file:
        metadata, tensors = dict(file.metadata()), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    del metadata["unchanged_fingerprint"], metadata["example"]
    metadata |= {"format": "featlift-delta-1", "base_fingerprint": tensors_fingerprint(plain.state_dict())}
    save_file(tensors, tmp_path / "old", metadata)
    load_delta(plain, tmp_path / "old")
    assert same_state(plain, yolo)
    with torch.no_grad():
        next(other.parameters()).add_(1)
    with pytest.raises(ValueError, match="with other weights"):
        load_delta(other, tmp_path / "old")


@torch.no_grad()
def train(model: nn.Module) -> None:
    """Change the added parameters and the first of the others."""
    for parameter in [*added_parameters(model).values(), next(model.parameters())]:
        parameter.add_(0.1)


def pickled_size(model: nn.Module, folder: Path) -> int:
    torch.save(model, folder / "model.pt")
    return (folder / "model.pt").stat().st_size


class Wide(nn.Sequential):
    """Large weights, a small map to upsample."""

    def __init__(self) -> None:
        first, last = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4000, 3)
        super().__init__(first, nn.Upsample(scale_factor=2), last)


class FixedSize(nn.Module):
    """Accepts images of one size, and a factor."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, factor: float = 0.0) -> Any:
        """``[B, 3, 64, 96]`` → the outputs of the network."""
        if factor != 2.0 or x.shape[-2:] != (64, 96):
            raise RuntimeError("wants 64x96")
        return self.network(x)
