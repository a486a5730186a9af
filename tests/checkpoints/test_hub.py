from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError

from featlift.checkpoints import from_pretrained, push_to_hub, save


def test_a_folder_needs_no_network(toys, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *a, **k: pytest.fail("network access"))
    part = toys.Upsampler(2)
    save(part, tmp_path / "model.safetensors")
    assert torch.equal(from_pretrained(tmp_path).layer.weight, part.layer.weight)
    assert torch.equal(from_pretrained(str(tmp_path)).layer.weight, part.layer.weight)


def test_a_repository_is_fetched_by_its_name(toys, tmp_path, monkeypatch):
    path, calls = save(toys.Upsampler(2), tmp_path / "x.safetensors"), []

    def fetch(name, file, revision):
        calls.append((name, file, revision))
        return str(path)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    assert type(from_pretrained("me/upsampler", "v1")) is toys.Upsampler
    assert calls == [("me/upsampler", "model.safetensors", "v1")]


def test_unreachable_repository(tmp_path, monkeypatch):
    def offline(*args, **kwargs):
        raise LocalEntryNotFoundError("offline")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    with pytest.raises(FileNotFoundError, match=r"'me/nothing' is neither a local folder nor a reachable repository"):
        from_pretrained("me/nothing")


def test_a_path_that_is_not_there_is_not_requested_from_the_hub():
    with pytest.raises(FileNotFoundError, match="neither a local folder"):
        from_pretrained("./no/such/folder")


def test_what_is_uploaded_can_be_loaded(toys, monkeypatch):
    part, uploaded = toys.Upsampler(2), {}

    class Api:
        def create_repo(self, name, private, exist_ok):
            uploaded["repo"] = (name, private)
            return f"https://hub/{name}"

        def upload_folder(self, repo_id, folder_path, commit_message):
            uploaded["part"] = from_pretrained(folder_path)
            uploaded["card"] = Path(folder_path, "README.md").read_text()

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    assert push_to_hub(part, "me/upsampler") == "https://hub/me/upsampler"
    assert uploaded["repo"] == ("me/upsampler", True)
    assert torch.equal(uploaded["part"].layer.weight, part.layer.weight)
    assert "from_pretrained('me/upsampler')" in uploaded["card"]
    assert "38 parameters" in uploaded["card"]
