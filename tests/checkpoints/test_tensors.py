import pytest
import torch
from safetensors.torch import load_file

from featlift.checkpoints import read_tensors, write_tensors


def test_tensors_and_metadata_round_trip(tmp_path):
    whole = torch.arange(6.0).view(2, 3)
    tensors = {
        "a": whole,
        "turned": whole.T,
        "tied": whole,
        "part": whole[0],
        "none": torch.zeros(0),
        "int": torch.tensor(3),
    }
    path = write_tensors(tmp_path / "deep" / "x.safetensors", tensors, {"who": "½ λ"})
    loaded, metadata = read_tensors(path)
    assert metadata == {"who": "½ λ"}
    assert loaded.keys() == tensors.keys() == load_file(path).keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path):
    path = write_tensors(tmp_path / "x.safetensors", {"a": torch.ones(1)})
    with pytest.raises(TypeError):
        write_tensors(path, {"a": torch.zeros(1)}, {"number": 3})
    assert read_tensors(path)[0]["a"] == 1


def test_missing_and_damaged_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no file"):
        read_tensors(tmp_path / "x.safetensors")
    (tmp_path / "x.safetensors").write_bytes(b"<html>")
    with pytest.raises(ValueError, match="damaged or not a safetensors file"):
        read_tensors(tmp_path / "x.safetensors")
