"""Scripts of the tests in processes of their own, forked from one process that has imported PyTorch and FeatLift but has not used them.

A new interpreter takes several seconds for these imports. A script sees no state of the tests that ran before.
"""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from multiprocessing.process import BaseProcess
from pathlib import Path

PRELOADED = (
    "torch", "torch._dynamo", "torch.distributed.checkpoint.state_dict", "torch.distributed.run", "torchvision", "timm",
    "featlift.cli.main", "featlift.papers.registry", "featlift.commands.train", "featlift.commands.evaluate",
)  # fmt: skip
SERVER = multiprocessing.get_context("forkserver")


def start_script(script: Path, *words: object, stdout: Path, stderr: Path) -> BaseProcess:
    """Start ``python SCRIPT WORD …`` with the environment of the caller; its outputs are appended to the files."""
    SERVER.set_forkserver_preload(list(PRELOADED))
    outputs, state = (str(stdout), str(stderr)), (dict(os.environ), multiprocessing.get_start_method())
    process = SERVER.Process(target=_run, args=([str(script), *map(str, words)], outputs, *state))
    process.start()
    return process


def run_script(script: Path, *words: object, timeout: float = 280) -> subprocess.CompletedProcess[str]:
    """Run ``python SCRIPT WORD …`` and return its exit code and outputs.

    Raises:
        subprocess.TimeoutExpired: If it takes longer than ``timeout`` (s); it is killed.
    """
    with tempfile.TemporaryDirectory() as folder:
        stdout, stderr = Path(folder, "stdout"), Path(folder, "stderr")
        process = start_script(script, *words, stdout=stdout, stderr=stderr)
        process.join(timeout)
        outputs = [path.read_text() if path.exists() else "" for path in (stdout, stderr)]
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired([str(script), *map(str, words)], timeout, *outputs)
        return subprocess.CompletedProcess([str(script), *map(str, words)], process.exitcode, *outputs)


def _run(words: list[str], outputs: tuple[str, str], environment: dict[str, str], start_method: str) -> None:
    """In the forked process: what the interpreter does before a script."""
    for descriptor, path in zip((1, 2), outputs, strict=True):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
    os.environ.clear()
    os.environ.update(environment)
    multiprocessing.set_start_method(
        start_method, force=True
    )  # a script's own processes are not forked from the server
    sys.argv = words
    sys.path.insert(0, str(Path(words[0]).parent))
    runpy.run_path(words[0], run_name="__main__")
