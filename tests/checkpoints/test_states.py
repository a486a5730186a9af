import copy

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from featlift.checkpoints import load_state_file, read_state_dict


def module() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


def zeros() -> dict[str, torch.Tensor]:
    return {name: torch.zeros_like(tensor) for name, tensor in module().state_dict().items()}


WRAPPERS = {
    "plain": lambda state: state,
    "model": lambda state: {"model": state, "epoch": 3},
    "state_dict": lambda state: {"state_dict": state, "optimizer": {"lr": 0.1}},
    "twice": lambda state: {"model": {"state_dict": state}},
    "distributed": lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
    "compiled and distributed": lambda state: {"model": {f"module._orig_mod.{n}": t for n, t in state.items()}},
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_wrappers_are_removed(tmp_path, wrapper):
    target = module()
    torch.save(WRAPPERS[wrapper](zeros()), tmp_path / "x.pth")
    report = load_state_file(target, tmp_path / "x.pth")
    assert report.is_complete
    assert set(report.matched) == set(target.state_dict())
    assert all(not tensor.any() for tensor in target.state_dict().values())


def test_safetensors_too(tmp_path):
    target = module()
    save_file(zeros(), tmp_path / "x.safetensors")
    assert load_state_file(target, tmp_path / "x.safetensors").is_complete
    assert not target[0].weight.any()


def broken() -> dict[str, torch.Tensor]:
    state = zeros()
    del state["0.bias"]
    return state | {"1.weight": torch.zeros(4), "head.weight": torch.zeros(1)}


def test_what_does_not_fit_is_listed_and_nothing_is_touched(tmp_path):
    target = module()
    before = copy.deepcopy(target.state_dict())
    torch.save(broken(), tmp_path / "x.pth")
    with pytest.raises(ValueError) as error:
        load_state_file(target, tmp_path / "x.pth")
    for row in ("missing      0.bias", "unexpected   head.weight", "other shape  1.weight  file [4], module [3]"):
        assert row in str(error.value)
    assert all(torch.equal(before[name], tensor) for name, tensor in target.state_dict().items())


def test_matching_tensors_can_be_loaded_with_a_report(tmp_path):
    target = module()
    torch.save(broken(), tmp_path / "x.pth")
    report = load_state_file(target, tmp_path / "x.pth", strict=False)
    assert (report.missing, report.unexpected, report.mismatched) == (
        ["0.bias"],
        ["head.weight"],
        {"1.weight": ([4], [3])},
    )
    assert not target[0].weight.any()
    assert target[0].bias.any()
    assert target[1].weight.all()
    assert str(report).startswith("5 tensors match")


def test_a_file_without_matching_tensors(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "x.pth")
    with pytest.raises(ValueError, match=r"x.pth does not fit Sequential: 0 tensors match"):
        load_state_file(module(), tmp_path / "x.pth", strict=False)


def test_long_lists_are_cut(tmp_path):
    torch.save(zeros() | {f"k{i}": torch.zeros(1) for i in range(30)}, tmp_path / "x.pth")
    text = str(load_state_file(module(), tmp_path / "x.pth", strict=False))
    assert "… and 18 more" in text


class Danger:
    def __reduce__(self):
        return (print, ("this must never be printed",))


def test_pickles_with_code_are_rejected(tmp_path, capsys):
    torch.save({"model": Danger()}, tmp_path / "x.pth")
    with pytest.raises(ValueError, match=r"was rejected.*weights_only=False"):
        read_state_dict(tmp_path / "x.pth")
    assert "never" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.pth", b"", "damaged|rejected"),
        ("x.pth", b"<html>not found</html>", "damaged|rejected"),
        ("x.safetensors", b"<html>not found</html>", "damaged or not a checkpoint"),
    ],
)
def test_damaged_files(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_state_dict(tmp_path / name)


def test_files_without_tensors(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "x.pth")
    with pytest.raises(ValueError, match="no named tensors"):
        read_state_dict(tmp_path / "x.pth")
    with pytest.raises(FileNotFoundError, match="nothing is downloaded"):
        read_state_dict(tmp_path / "y.pth")
