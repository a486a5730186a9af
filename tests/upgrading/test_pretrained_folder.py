import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from featlift.upgrading.pretrained_folder import read_pretrained_folder


def test_added_tensors_of_all_shards(tmp_path: Path):
    (tmp_path / "config.json").write_text(json.dumps({"featlift_upgrade": {"interpolator": "light"}}))
    save_file({"neck.added.0.weight": torch.ones(1), "neck.weight": torch.ones(2)}, tmp_path / "a.safetensors")
    save_file({"added.x": torch.zeros(1), "loaded.added_bias": torch.ones(2)}, tmp_path / "b.safetensors")
    settings, tensors = read_pretrained_folder(tmp_path)
    assert settings == {"interpolator": "light"}
    assert sorted(tensors) == ["added.x", "neck.added.0.weight"]


def test_folders_of_other_models(tmp_path: Path):
    with pytest.raises(ValueError, match="contains no upgraded model"):
        read_pretrained_folder(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="no entry 'featlift_upgrade'"):
        read_pretrained_folder(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"featlift_upgrade": {"interpolator": "light"}}))
    with pytest.raises(ValueError, match="has no safetensors file"):
        read_pretrained_folder(tmp_path)
