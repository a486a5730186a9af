import socket

import huggingface_hub
import pytest
from huggingface_hub import constants
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError, RepositoryNotFoundError

from featlift.checkpoints import hub


@pytest.fixture
def reachable(monkeypatch):
    monkeypatch.setattr(hub, "is_hub_reachable", lambda: True)


def answers(monkeypatch, **by_file):
    """A Hub that answers for each file name with a path or an error; returns the calls."""
    calls = []

    def fetch(repo_id, filename, revision):
        calls.append((repo_id, filename, revision))
        answer = by_file[filename]
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    return calls


def refusal(kind):
    import httpx

    request = httpx.Request("GET", "https://hub")
    return kind("no", response=httpx.Response(404, request=request))


def test_the_first_file_there_is(reachable, monkeypatch):
    calls = answers(monkeypatch, a=EntryNotFoundError("no"), b="/cache/b", c="/cache/c")
    assert str(hub.download_file("me/x", ["a", "b", "c"], "v1")) == "/cache/b"
    assert calls == [("me/x", "a", "v1"), ("me/x", "b", "v1")]


def test_a_repository_of_something_else(reachable, monkeypatch):
    answers(monkeypatch, a=EntryNotFoundError("no"))
    with pytest.raises(FileNotFoundError, match="'me/x' has none of a: it is not of FeatLift"):
        hub.download_file("me/x", ["a"])


def test_no_such_repository(reachable, monkeypatch):
    answers(monkeypatch, a=refusal(RepositoryNotFoundError))
    with pytest.raises(FileNotFoundError, match="neither a local folder nor a repository of the Hub that you can read"):
        hub.download_file("me/x", ["a"])


def test_a_path_is_no_repository(reachable):
    with pytest.raises(FileNotFoundError, match="neither a local folder"):
        hub.download_file("./no/such/folder", ["a"])


def test_without_a_network_there_is_one_try(monkeypatch):
    """huggingface_hub would try six times, 27 s here; offline it asks only its cache."""
    tries = []

    def refuse(address, timeout):
        tries.append(address)
        raise OSError("no network")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(hub.urllib.request, "getproxies", dict)
    with pytest.raises(FileNotFoundError, match="cannot be reached, and the repository is not in the cache"):
        hub.download_file("me/nothing", ["model.safetensors"])
    assert tries == [("huggingface.co", 443)]
    assert constants.HF_HUB_OFFLINE is False


def test_only_the_cache_is_read_without_a_network(monkeypatch):
    monkeypatch.setattr(hub, "is_hub_reachable", lambda: False)
    seen = []

    def fetch(*arguments, **options):
        seen.append(constants.HF_HUB_OFFLINE)
        raise LocalEntryNotFoundError("not cached")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    with pytest.raises(FileNotFoundError, match="Connect to the internet"):
        hub.download_file("me/x", ["a"])
    assert seen == [True]
    assert constants.HF_HUB_OFFLINE is False


def test_a_proxy_is_not_tested(monkeypatch):
    monkeypatch.setattr(hub.urllib.request, "getproxies", lambda: {"https": "http://proxy:3128"})
    monkeypatch.setattr(socket, "create_connection", lambda *arguments: pytest.fail("network access"))
    assert hub.is_hub_reachable()


def test_names_with_and_without_the_prefix(reachable, monkeypatch, tmp_path):
    calls = answers(monkeypatch, a="/cache/a")
    assert hub.resolve_hub_path(tmp_path / "x", ["a"]) == tmp_path / "x"
    assert calls == []
    assert str(hub.resolve_hub_path("hub:me/x@v2", ["a"])) == "/cache/a"
    hub.resolve_hub_path("hub:me/x", ["a"])
    assert calls == [("me/x", "a", "v2"), ("me/x", "a", None)]


def test_nothing_is_uploaded_without_a_network(monkeypatch, tmp_path):
    monkeypatch.setattr(hub, "is_hub_reachable", lambda: False)
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: pytest.fail("network access"))
    with pytest.raises(ConnectionError, match="nothing is uploaded"):
        hub.upload_files(tmp_path, "me/x", True, "message")
