from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError

from featlift.checkpoints import from_pretrained, push_to_hub, save


def test_a_folder_needs_no_network(toys, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *a, **k: pytest.fail("asked the network"))
    part = toys.Doubler(2)
    save(part, tmp_path / "model.safetensors")
    assert torch.equal(from_pretrained(tmp_path).layer.weight, part.layer.weight)
    assert torch.equal(from_pretrained(str(tmp_path)).layer.weight, part.layer.weight)


def test_a_repository_is_fetched_by_its_name(toys, tmp_path, monkeypatch):
    path, asked = save(toys.Doubler(2), tmp_path / "x.safetensors"), []

    def fetch(name, file, revision):
        asked.append((name, file, revision))
        return str(path)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    assert type(from_pretrained("me/doubler", "v1")) is toys.Doubler
    assert asked == [("me/doubler", "model.safetensors", "v1")]


def test_what_cannot_be_reached_is_explained(tmp_path, monkeypatch):
    def offline(*arguments, **named):
        raise LocalEntryNotFoundError("offline")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    with pytest.raises(FileNotFoundError, match=r"'me/nothing' is neither a folder here nor a repository"):
        from_pretrained("me/nothing")


def test_a_path_that_is_not_there_is_not_asked_of_the_network():
    with pytest.raises(FileNotFoundError, match="neither a folder here"):
        from_pretrained("./no/such/folder")


def test_what_is_uploaded_can_be_loaded(toys, monkeypatch):
    part, seen = toys.Doubler(2), {}

    class Api:
        def create_repo(self, name, private, exist_ok):
            seen["repo"] = (name, private)
            return f"https://hub/{name}"

        def upload_folder(self, repo_id, folder_path, commit_message):
            seen["part"] = from_pretrained(folder_path)
            seen["card"] = Path(folder_path, "README.md").read_text()

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    assert push_to_hub(part, "me/doubler") == "https://hub/me/doubler"
    assert seen["repo"] == ("me/doubler", True)
    assert torch.equal(seen["part"].layer.weight, part.layer.weight)
    assert "from_pretrained('me/doubler')" in seen["card"]
    assert "38 parameters" in seen["card"]
