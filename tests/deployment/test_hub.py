"""Networks go to a Hub that is a local folder, and come back equal."""

import json
import shutil
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import EntryNotFoundError
from torch import nn
from torch.nn import functional as nnf

import featlift
from featlift.checkpoints import hub, save
from featlift.checkpoints.tensors import write_tensors
from featlift.cli.main import main
from featlift.deployment.hub import FILES, find_kind, from_pretrained, push_to_hub
from featlift.detectors.checkpoint import load_detector, save_detector
from featlift.detectors.config import build_detector, quick_detector_config
from featlift.interpolators import interpolator


@pytest.fixture(autouse=True)
def remote(tmp_path, monkeypatch):
    """The Hub, as the folder ``remote/OWNER/NAME``."""
    root = tmp_path / "remote"

    class Api:
        def create_repo(self, repo_id, private, exist_ok):
            assert private
            assert exist_ok
            (root / repo_id).mkdir(parents=True, exist_ok=True)
            return f"https://hub/{repo_id}"

        def upload_folder(self, repo_id, folder_path, commit_message):
            shutil.copytree(folder_path, root / repo_id, dirs_exist_ok=True)

    def fetch(repo_id, filename, revision=None):
        if not (root / repo_id / filename).is_file():
            raise EntryNotFoundError("no such file")
        return str(root / repo_id / filename)

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    monkeypatch.setattr(hub, "is_hub_reachable", lambda: True)
    return root


@pytest.fixture
def run(tmp_path):
    """A run folder with a detector and its result."""
    folder = tmp_path / "run"
    folder.mkdir()
    torch.manual_seed(0)
    config = quick_detector_config("light")
    save_detector(build_detector(config, 2), config, ["cat", "fox"], folder, category_ids=[17, 90])
    metrics = {"boxes": {"ap": 0.123, "ap50": 0.3, "ap_tiny": None, "ap_small": 0.05}}
    (folder / "result.json").write_text(json.dumps({"metrics": metrics}))
    return folder


def test_a_detector(run, remote, tmp_path):
    assert push_to_hub(run, "me/foxes") == "https://hub/me/foxes"
    expected, loaded = load_detector(run)[0].state_dict(), from_pretrained("me/foxes").state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in expected.items())
    predictor = featlift.Predictor("hub:me/foxes", device="cpu")
    assert (predictor.classes, predictor.category_ids) == (["cat", "fox"], [17, 90])
    card = (remote / "me/foxes/README.md").read_text()
    assert "tags: [object-detection, featlift]" in card
    assert "faster-rcnn on resnet10t, fpn with light upsampling" in card
    assert "Classes: cat, fox." in card
    assert "| ap | 12.3 |" in card
    assert "ap_tiny" not in card
    assert 'featlift.Predictor("hub:me/foxes")' in card
    assert str(tmp_path) not in card  # nothing of this machine


def test_commands_take_a_repository(run, tmp_path):
    from torchvision.utils import save_image

    push_to_hub(str(run / "detector.safetensors"), "me/foxes")
    save_image(torch.rand(3, 48, 48), tmp_path / "a.png")
    out = tmp_path / "out"
    assert main(["predict", "hub:me/foxes", str(tmp_path / "a.png"), "--out", str(out), "--device", "cpu"]) == 0
    assert json.loads((out / "predictions.json").read_text())["categories"][1] == {"id": 90, "name": "fox"}


@pytest.mark.parametrize("as_file", [False, True])
def test_a_part(as_file, tmp_path, remote):
    part = interpolator("carafe", 8)
    push_to_hub(save(part, tmp_path / "G.safetensors") if as_file else part, "me/carafe")
    loaded = from_pretrained("me/carafe")
    assert type(loaded) is type(part)
    assert all(torch.equal(a, b) for a, b in zip(loaded.state_dict().values(), part.state_dict().values(), strict=True))
    assert (remote / "me/carafe/model.safetensors").is_file()
    assert 'featlift.from_pretrained("me/carafe")' in (remote / "me/carafe/README.md").read_text()


class Neck(nn.Module):
    def __init__(self):
        super().__init__()
        self.fine, self.coarse = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1)

    def forward(self, x):
        fine = self.fine(x)
        return fine + nnf.interpolate(self.coarse(fine), scale_factor=2.0)


def test_an_upgrade(remote):
    torch.manual_seed(0)
    original = Neck()
    weights = {name: value.clone() for name, value in original.state_dict().items()}
    x = torch.rand(1, 3, 32, 32)
    featlift.upgrade(original, "light", example_inputs=(x,))
    for parameter in featlift.added_parameters(original).values():
        nn.init.normal_(parameter, std=0.1)
    push_to_hub(original, "me/upgrade")
    fresh = Neck()
    fresh.load_state_dict(weights)
    featlift.load_delta(fresh, "hub:me/upgrade", example_inputs=(x,))
    with torch.no_grad():
        assert torch.equal(fresh.eval()(x), original.eval()(x))
    card = (remote / "me/upgrade/README.md").read_text()
    assert 'featlift.load_delta(network, "hub:me/upgrade")' in card
    assert not (remote / "me/upgrade/model.safetensors").exists()
    with pytest.raises(ValueError, match="is an upgrade of another network"):
        from_pretrained("me/upgrade")


def test_from_a_folder(run, tmp_path):
    assert type(from_pretrained(run)) is type(load_detector(run)[0])
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"none of detector\.safetensors"):
        from_pretrained(tmp_path / "empty")


def test_what_is_not_of_featlift(tmp_path):
    other = write_tensors(tmp_path / "x.safetensors", {"x": torch.zeros(1)})
    with pytest.raises(ValueError, match="no file of FeatLift"):
        find_kind(other)
    with pytest.raises(FileNotFoundError, match="neither a file nor a finished run"):
        push_to_hub(tmp_path / "nothing", "me/x")
    with pytest.raises(TypeError, match="cannot be saved as a module file"):
        push_to_hub(nn.Linear(2, 2), "me/x")
    assert not Path(tmp_path / "remote").exists()
    assert len(set(FILES)) == 3
