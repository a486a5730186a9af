import json
import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from tests.forked_scripts import run_script

from featlift.training import Run, checkpointing, fit

WORKERS = Path(__file__).parent / "workers.py"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The folder of two runs of two stages, "uninterrupted" and "killed" many times, and the number of kills."""
    folder = tmp_path_factory.mktemp("runs")
    done = run_script(WORKERS, "killed", folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, int(done.stdout.split("deaths")[-1])


def test_a_run_killed_at_any_line_and_resumed_is_the_unbroken_one(runs):
    folder, deaths = runs
    assert deaths >= 8, "it has to have been killed often"
    assert (folder / "killed" / "log.jsonl").read_text() == (folder / "uninterrupted" / "log.jsonl").read_text()
    results = [json.loads((folder / name / "result.json").read_text()) for name in ("killed", "uninterrupted")]
    assert results[0]["result"] == results[1]["result"]


def test_two_checkpoints_are_kept_and_nothing_half_done(runs):
    for name in ("killed", "uninterrupted"):
        last = sorted(path.name for path in (runs[0] / name / "checkpoint" / "second").iterdir())
        assert last == ["step-00000020", "step-00000024"]


def test_a_half_written_checkpoint_is_not_one(tmp_path):
    (tmp_path / "writing-step-00000009").mkdir()
    assert checkpointing.latest_checkpoint(tmp_path) is None


def test_other_learners_are_refused(tmp_path, make_training, batches):
    step, learners = make_training(2)
    fit(step, batches, 2, Run(tmp_path), learners)
    with pytest.raises(ValueError, match=r"holds the learners discriminator, generator, but generator are trained now"):
        checkpointing.load_checkpoint(
            checkpointing.latest_checkpoint(tmp_path / "checkpoint" / "train"), {"generator": learners["generator"]}
        )


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_everything_a_learner_knows_comes_back(tmp_path, make_training, batches, optimizer):
    options = {"name": optimizer, "accumulation_steps": 4, "ema_decay": 0.5, "lr": 0.01, "schedule": "cosine"}
    step, learners = make_training(20, **options)
    fit(step, batches, 7, Run(tmp_path), learners)
    again = make_training(20, **options)[1]
    checkpointing.load_checkpoint(checkpointing.latest_checkpoint(tmp_path / "checkpoint" / "train"), again)
    for name, learner in learners.items():
        assert again[name].scalar_state() == learner.scalar_state()
        old, new = flat(learner.tensor_state()), flat(again[name].tensor_state())
        assert old.keys() == new.keys()
        assert all(torch.equal(old[key], new[key]) for key in old)
    assert learners["generator"].num_accumulated == 3, "accumulated gradients must be restored, too"


def test_lost_parameters_do_not_replace_good_ones(tmp_path, make_training, batches):
    step, learners = make_training(4)
    run = Run(tmp_path, save_every=2)

    def poisoned(images, targets):
        losses = step(images, targets)
        if learners["discriminator"].num_calls == 4:
            learners["discriminator"].module.bias.data.fill_(float("inf"))
        return losses

    with pytest.raises(
        FloatingPointError, match=r"discriminator was not saved: bias.*step-00000002 is the last good state"
    ):
        fit(poisoned, batches, 4, run, learners)
    assert [path.name for path in (tmp_path / "checkpoint" / "train").iterdir()] == ["step-00000002"]


def test_before_the_first_update_no_momentum_is_invented(tmp_path, make_training, batches):
    step, learners = make_training(20, accumulation_steps=5)
    fit(step, batches, 2, Run(tmp_path), learners)
    again = make_training(20, accumulation_steps=5)[1]
    checkpointing.load_checkpoint(checkpointing.latest_checkpoint(tmp_path / "checkpoint" / "train"), again)
    assert not again["generator"].optimizer.state
    assert again["discriminator"].optimizer.state


@pytest.fixture
def interrupted(tmp_path, make_training, batches):
    """A run that stopped at step 7 of 12 with checkpoints at 4 and 6, and a function that resumes it."""

    def train(poison=-1):
        torch.manual_seed(0)
        step, learners = make_training(12, name="adam", lr=0.01, ema_decay=0.5)

        def stopping(images, targets):
            if learners["discriminator"].num_calls == poison:
                raise KeyboardInterrupt
            return step(images, targets)

        with Run(tmp_path / "run", {"steps": 12}, save_every=2, log_every=1) as run:
            fit(stopping, batches, 12, run, learners)
            return run.read_log()

    with pytest.raises(KeyboardInterrupt):
        train(poison=7)
    return tmp_path / "run" / "checkpoint" / "train", train


def flip_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) * 2 // 3] ^= 4
    path.write_bytes(content)


DAMAGES = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "empty": lambda path: path.write_bytes(b""),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "missing": lambda path: path.unlink(),
    "one flipped bit": flip_bit,
}
FILES = ("rank-0.safetensors", "tensors.json", "progress.json", "checksums.json")


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", DAMAGES)
def test_the_checkpoint_before_a_damaged_one_is_used(interrupted, damage, file, capsys):
    folder, train = interrupted
    DAMAGES[damage](folder / "step-00000006" / file)
    with pytest.warns(UserWarning, match=rf"left out: .*step-00000006/{file}.* step-00000004 is used instead"):
        log = train()
    assert "train resumes at step 4 of 12" in capsys.readouterr().out
    assert [record["step"] for record in log] == list(range(1, 13))
    assert sorted(path.name for path in folder.iterdir()) == ["step-00000010", "step-00000012"]


def test_if_all_are_damaged_each_is_named(interrupted):
    folder, train = interrupted
    for name in ("step-00000004", "step-00000006"):
        flip_bit(folder / name / "rank-0.safetensors")
    named = r"(?s)is intact:\n.*00000006/rank-0\.safetensors is damaged.*00000004/rank-0.*\nDelete this folder"
    with pytest.raises(ValueError, match=named):
        train()
    assert len(list(folder.iterdir())) == 2, "nothing may be deleted"


def test_stray_files_and_leftovers_do_not_matter(interrupted, capsys):
    folder, train = interrupted
    (folder / "step-00000006.bak").write_text("x")
    for name in ("writing-step-00000008", "removing-step-00000002"):
        (folder / name).mkdir()
    (folder.parents[1] / ".result.json.4711").write_text("{")
    train()
    assert "train resumes at step 6 of 12" in capsys.readouterr().out
    assert sorted(path.name for path in folder.iterdir()) == ["step-00000006.bak", "step-00000010", "step-00000012"]
    assert not (folder.parents[1] / ".result.json.4711").exists()


def test_no_pickle_is_read(interrupted, monkeypatch):
    """A pickle in the place of the library's metadata runs nothing, and is named."""

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(folder / "executed"),)

    folder, train = interrupted
    for name in ("step-00000004", "step-00000006"):
        (folder / name / ".metadata").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(ValueError, match="was written by an older version of FeatLift, with a pickle"):
        train()
    assert not (folder / "executed").exists()


def test_another_network_is_refused_in_words(interrupted, make_training):
    folder, _ = interrupted
    learners = make_training(12, name="adam", lr=0.01, ema_decay=0.5)[1]
    learners["discriminator"].module.weight.data = torch.zeros(2, 4, 3, 3)
    with pytest.raises(ValueError, match=r"step-00000006 does not fit the network that is trained now \(.*[Ss]ize"):
        checkpointing.load_checkpoint(folder / "step-00000006", learners)


def test_a_full_disk_leaves_the_checkpoint_before(interrupted, monkeypatch):
    _, train = interrupted

    def full(tensors, path, metadata):
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    with monkeypatch.context() as patch:
        patch.setattr("featlift.checkpoints.tensors.save_file", full)
        with pytest.raises(OSError, match=r"rank-0\.safetensors.* cannot be written: .*No space left"):
            train()
    assert [record["step"] for record in train()] == list(range(1, 13))


def test_files_and_folders_are_on_disk_before_the_checkpoint_has_its_name(interrupted, monkeypatch):
    flushed = []
    monkeypatch.setattr(os, "fsync", lambda file: flushed.append(os.readlink(f"/proc/self/fd/{file}")))
    folder, train = interrupted
    train()
    names = [path.replace(str(folder), "") for path in flushed if "step-00000008" in path or path == str(folder)]
    before = names[: names.index("")]
    written = {name.rpartition(".")[0] for name in before if name.startswith("/writing-step-00000008/.")}
    assert written == {f"/writing-step-00000008/.{file}" for file in FILES}
    assert "/writing-step-00000008" in before


def flat(value, prefix=""):
    if not isinstance(value, dict):
        return {prefix: value}
    return {key: item for name, inner in value.items() for key, item in flat(inner, f"{prefix}/{name}").items()}
