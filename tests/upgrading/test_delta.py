import copy
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from featlift.upgrading import added_parameters, downgrade, load_delta, save_delta, upgrade

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
