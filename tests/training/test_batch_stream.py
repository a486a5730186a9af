"""Signals to a process group with workers, and killed workers: the state is saved, and the resumed run is exact."""

import json
import re
from pathlib import Path

import pytest
from tests.forked_scripts import run_script

from featlift.training.batch_stream import BatchStream, WorkerKilledError

WORKERS = Path(__file__).parent / "workers.py"


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """What happened in the runs of ``workers.py signals``."""
    folder = tmp_path_factory.mktemp("runs")
    done = run_script(WORKERS, "signals", folder)
    assert done.returncode == 0, done.stdout + done.stderr
    undisturbed = folder / "undisturbed"
    log, result = (undisturbed / "log.jsonl").read_text(), json.loads((undisturbed / "result.json").read_text())
    return {"undisturbed": (log, result["result"]), **json.loads((folder / "cases.json").read_text())}


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signals_to_the_whole_group_save_first(cases, name):
    case, (first, again) = cases[name], cases[name]["output"]
    assert case["code"] == 1, first
    stopped = re.search(r"Stopped at step (\d+) of 12; run the same command to resume \(.*\)\n$", first)
    assert stopped, first
    assert "Error" not in first
    assert case["saved"] == [f"step-{int(stopped[1]):08d}"]
    assert (case["workers"], case["left"]) == (2, [])
    assert f"train resumes at step {stopped[1]} of 12" in again


def test_a_killed_worker_saves_and_says_what_to_lower(cases):
    case, (first, again) = cases["worker"], cases["worker"]["output"]
    died = re.search(
        r"WorkerKilledError A worker process .* was killed before step (\d+)\..*lower --data\.num-workers", first
    )
    assert died, first
    assert case["saved"] == [f"step-{int(died[1]):08d}"]
    assert f"train resumes at step {died[1]} of 12" in again


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "worker"])
def test_the_resumed_run_equals_the_undisturbed_one(cases, name):
    assert cases[name]["resumed"] == 0
    assert (cases[name]["log"], cases[name]["result"]) == cases["undisturbed"]


class Loader:
    """Raises ``error`` instead of batch 2."""

    def __init__(self, error):
        self.error = error

    def iter_from(self, step, rank=0, world_size=1):
        for number in range(step, 9):
            if number == 2 and self.error is not None:
                raise self.error
            yield number, rank


@pytest.mark.parametrize(
    ("error", "is_death"),
    [
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."), True),
        (RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly"), True),
        (ConnectionResetError(104, "Connection reset by peer"), True),
        (FileNotFoundError(2, "No such file or directory"), True),
        (FileNotFoundError("Caught FileNotFoundError in DataLoader worker process 0.\nOriginal Traceback"), False),
        (RuntimeError("shapes differ"), False),
        (ValueError("DataLoader worker"), False),
    ],
)
def test_the_death_of_a_worker_is_recognized(error, is_death):
    with BatchStream(Loader(error), 1) as stream:
        assert stream.next(1) == (1, 0)
        with pytest.raises(WorkerKilledError if is_death else type(error)):
            stream.next(2)


def test_a_restart_continues_with_the_same_batch():
    loader = Loader(EOFError())
    with BatchStream(loader, 0, rank=1, world_size=2) as stream:
        assert [stream.next(0), stream.next(1)] == [(0, 1), (1, 1)]
        with pytest.raises(WorkerKilledError):
            stream.next(2)
        loader.error = None
        stream.restart(2)
        assert stream.next(2) == (2, 1)
        assert stream.was_restarted
