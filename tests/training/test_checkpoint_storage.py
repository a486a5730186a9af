"""Checkpoints without pickles: safetensors and JSON, for the planners of torch.distributed.checkpoint."""

import json
import pickle

import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import load_file

from featlift.training.checkpoint_storage import SafetensorsReader, SafetensorsWriter, file_checksum

STATE = {
    "a": {"weight": torch.arange(24.0).reshape(4, 6), "count": torch.tensor(7)},
    "half": torch.ones(3, dtype=torch.bfloat16),
    "mask": torch.tensor([True, False]),
    "none": torch.zeros(0, 5),
}


def save(state, folder):
    writer = SafetensorsWriter(folder)
    dcp.save(state, storage_writer=writer, no_dist=True)
    return writer


def zeros(value):
    return {name: zeros(inner) for name, inner in value.items()} if isinstance(value, dict) else torch.zeros_like(value)


def flat(value, prefix=""):
    if not isinstance(value, dict):
        return {prefix: value}
    return {
        key: item for name, inner in value.items() for key, item in flat(inner, f"{prefix}.{name}".lstrip(".")).items()
    }


def test_tensors_come_back_without_pickle(tmp_path, monkeypatch):
    save(STATE, tmp_path)
    for function in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, function, lambda *args, **options: pytest.fail("a pickle was read"))
    monkeypatch.setattr(torch, "load", lambda *args, **options: pytest.fail("a pickle was read"))
    state = zeros(STATE)
    dcp.load(state, storage_reader=SafetensorsReader(tmp_path), no_dist=True)
    for name, tensor in flat(STATE).items():
        assert torch.equal(flat(state)[name], tensor)
        assert flat(state)[name].dtype == tensor.dtype


def test_the_files_are_safetensors_and_json_with_checksums(tmp_path):
    writer = save(STATE, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"rank-0.safetensors", "tensors.json"} == set(writer.checksums)
    assert all(file_checksum(tmp_path / name) == checksum for name, checksum in writer.checksums.items())
    assert torch.equal(load_file(tmp_path / "rank-0.safetensors")["a.weight@0,0"], STATE["a"]["weight"])
    described = json.loads((tmp_path / "tensors.json").read_text())["a.weight"]
    chunk = {"offsets": [0, 0], "sizes": [4, 6], "file": "rank-0.safetensors"}
    assert described == {"dtype": "float32", "size": [4, 6], "chunks": [chunk]}


def test_chunks_of_several_processes_are_joined(tmp_path):
    """Two files with half of the rows each, as two processes write them, read as one tensor."""
    from safetensors.torch import save_file

    whole = torch.arange(12.0).reshape(4, 3)
    save_file({"w@0,0": whole[:2].clone()}, tmp_path / "rank-0.safetensors")
    save_file({"w@2,0": whole[2:].clone()}, tmp_path / "rank-1.safetensors")
    chunks = [{"offsets": [2 * r, 0], "sizes": [2, 3], "file": f"rank-{r}.safetensors"} for r in (0, 1)]
    (tmp_path / "tensors.json").write_text(json.dumps({"w": {"dtype": "float32", "size": [4, 3], "chunks": chunks}}))
    state = {"w": torch.zeros(4, 3)}
    dcp.load(state, storage_reader=SafetensorsReader(tmp_path), no_dist=True)
    assert torch.equal(state["w"], whole)


@pytest.mark.parametrize("file", ["../secret.safetensors", "/etc/hostname", "other.bin"])
def test_other_files_are_not_opened(tmp_path, file):
    save({"w": torch.ones(2)}, tmp_path)
    path = tmp_path / "tensors.json"
    path.write_text(path.read_text().replace("rank-0.safetensors", file))
    with pytest.raises(BaseException, match="which is none of this checkpoint"):
        dcp.load({"w": torch.zeros(2)}, storage_reader=SafetensorsReader(tmp_path), no_dist=True)


def test_what_is_no_tensor_is_refused(tmp_path):
    with pytest.raises(BaseException, match="thing is no tensor"):
        save({"thing": object()}, tmp_path)
