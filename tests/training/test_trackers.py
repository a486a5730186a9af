import json
import math
import time
from pathlib import Path

import pytest

from featlift.training import Run, trackers
from featlift.training.trackers import TRACKERS, open_tracker, select_numbers

SETTINGS = {"paper": "baseline", "train": {"steps": 2, "optimizer": {"lr": 0.5}}}


@pytest.fixture(autouse=True)
def _offline(monkeypatch, tmp_path):
    for name in ("WANDB_API_KEY", "WANDB_MODE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))


def track(folder, name, succeeded=True, steps=(1, 2)):
    folder.mkdir(exist_ok=True)
    tracker = open_tracker(name, folder, SETTINGS)
    for step in steps:
        tracker.log("teacher", step, {"loss": 1 / step, "lr/detector": 0.5})
    tracker.log("target", 1, {"loss": 7.0})
    tracker.log_result({"metrics.boxes.ap": 0.25})
    tracker.close(succeeded)


def read_tensorboard(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    return {name: [(event.step, event.value) for event in events.Scalars(name)] for name in events.Tags()["scalars"]}


def read_wandb(folder):
    """The history and the summary of the offline runs, decoded from the files that ``wandb sync`` uploads."""
    history, summary = {}, {}
    for file in sorted((folder / "wandb").glob("offline-run-*/*.wandb")):
        for record in _read_finished(file):
            row = {_key(item): json.loads(item.value_json) for item in record.history.item}
            for name, value in row.items():
                stage, _, key = name.partition("/")
                if key and key != "step":
                    history.setdefault(name, []).append((row[f"{stage}/step"], value))
            summary |= {_key(item): json.loads(item.value_json) for item in record.summary.update}
    return history | {name: [(0, value)] for name, value in summary.items() if name.startswith("result/")}


def _read_finished(file, seconds=60):
    """All records of a run. Its process may still be writing them after ``finish`` has returned; the last one is that of the exit."""
    from wandb.proto.wandb_internal_pb2 import Record

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        records = [Record.FromString(data) for data in _read_records(file.read_bytes())]
        if records and records[-1].WhichOneof("record_type") == "exit":
            return records
        time.sleep(0.05)
    raise TimeoutError(f"{file} has no exit record")


def _read_records(content):
    """Records of a file in LevelDB's log format: blocks of 32 KiB; 7 bytes before the file and before each piece of a record."""
    position, record = 7, b""
    while position + 7 <= len(content):
        left = 32768 - position % 32768
        length, kind = int.from_bytes(content[position + 4 : position + 6], "little"), content[position + 6]
        if left < 7 or not kind:
            position += left
            continue
        if position + 7 + length > len(content):  # still being written
            return
        record += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # a whole record, or the last piece of one
            yield record
            record = b""


def _key(item):
    return item.key or "/".join(item.nested_key)


def read_mlflow(folder):
    from mlflow import MlflowClient

    client = MlflowClient((folder.parent / "mlruns").as_uri())
    (run,) = client.search_runs([client.get_experiment_by_name("featlift").experiment_id])
    return {
        name: [(metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, name)]
        for name in run.data.metrics
    }


READERS = {"tensorboard": read_tensorboard, "wandb": read_wandb, "mlflow": read_mlflow}


def test_every_tracker_is_tested():
    assert set(READERS) == set(TRACKERS)


@pytest.mark.parametrize("name", TRACKERS)
def test_what_is_logged_is_stored_offline(tmp_path, name):
    pytest.importorskip(name)
    track(tmp_path / "run", name)
    stored = READERS[name](tmp_path / "run")
    assert stored["teacher/loss"] == [(1, 1.0), (2, 0.5)]
    assert stored["teacher/lr/detector"] == [(1, 0.5), (2, 0.5)]
    assert stored["target/loss"] == [(1, 7.0)]
    assert stored["result/metrics.boxes.ap"] == [(0, 0.25)]


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_resumed_run_continues_the_same_run(tmp_path, name):
    pytest.importorskip(name)
    track(tmp_path / "run", name, succeeded=False, steps=(1,))
    first = (tmp_path / "run" / "tracker.json").read_text()
    track(tmp_path / "run", name, steps=(2,))
    assert (tmp_path / "run" / "tracker.json").read_text() == first
    assert READERS[name](tmp_path / "run")["teacher/loss"] == [(1, 1.0), (2, 0.5)]


def test_an_offline_run_that_resumes_within_a_second_does_not_replace_the_first(tmp_path, monkeypatch):
    (tmp_path / "offline-run-20260101_000000-ab12").mkdir()
    seconds, waited = ["20260101_000001", "20260101_000000", "20260101_000000"], []
    monkeypatch.setattr(trackers.time, "strftime", lambda form: seconds.pop())
    monkeypatch.setattr(trackers.time, "sleep", waited.append)
    trackers._wait_for_new_second(tmp_path)
    assert (seconds, len(waited)) == ([], 2)


def test_mlflow_stores_settings_name_and_status(tmp_path):
    mlflow = pytest.importorskip("mlflow")
    track(tmp_path / "run", "mlflow", succeeded=False)
    client = mlflow.MlflowClient((tmp_path / "mlruns").as_uri())
    (run,) = client.search_runs([client.get_experiment_by_name("featlift").experiment_id])
    assert run.data.params == {"paper": "baseline", "train.steps": "2", "train.optimizer.lr": "0.5"}
    assert (run.info.run_name, run.info.status) == ("run", "KILLED")


@pytest.mark.parametrize("name", TRACKERS)
def test_a_missing_package_names_its_extra(tmp_path, monkeypatch, name):
    import sys

    module = "torch.utils.tensorboard" if name == "tensorboard" else name
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"--tracker {name} needs .*pip install 'featlift\["):
        open_tracker(name, tmp_path, {})


def test_an_unknown_tracker_is_refused():
    with pytest.raises(ValueError, match="tensorboard"):
        open_tracker("tensorbord", Path("run"), {})


def test_only_finite_numbers_are_selected():
    values = {
        "name": "afi",
        "metrics": {"ap": 0.5, "ap_tiny": None, "per_class": [1, 2]},
        "nan": math.nan,
        "flag": True,
        "n": 3,
    }
    assert select_numbers(values) == {"metrics.ap": 0.5, "n": 3.0}


def test_a_failed_run_is_not_finished(tmp_path):
    mlflow = pytest.importorskip("mlflow")
    with pytest.raises(RuntimeError), Run(tmp_path / "run", tracker="mlflow"):
        raise RuntimeError
    client = mlflow.MlflowClient((tmp_path / "mlruns").as_uri())
    (run,) = client.search_runs([client.get_experiment_by_name("featlift").experiment_id])
    assert run.info.status == "KILLED"
