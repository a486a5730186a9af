import platform
import subprocess

import torch

from featlift.training.provenance import collect_provenance, git_state


def git(folder, *command):
    who = ["-c", "user.name=x", "-c", "user.email=x@y"]
    return subprocess.run(
        ["git", *who, *command], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


def test_the_commit_of_a_folder_and_whether_it_was_changed(tmp_path):
    (tmp_path / "code.py").write_text("x = 1\n")
    assert git_state(tmp_path) == {"commit": None, "dirty": None}
    git(tmp_path, "init", "-q")
    assert git_state(tmp_path) == {"commit": None, "dirty": None}, "files that git does not keep have no commit"
    git(tmp_path, "add", "code.py")
    git(tmp_path, "commit", "-qm", "one")
    assert git_state(tmp_path) == {"commit": git(tmp_path, "rev-parse", "HEAD"), "dirty": False}
    (tmp_path / "code.py").write_text("x = 2\n")
    assert git_state(tmp_path)["dirty"] is True


def test_versions_and_device():
    provenance = collect_provenance(torch.device("cpu"), world_size=2)
    assert provenance["versions"]["torch"] == torch.__version__.split("+")[0]
    assert provenance["versions"]["python"] == platform.python_version()
    assert provenance["device"].startswith("cpu: ")
    assert provenance["world_size"] == 2
