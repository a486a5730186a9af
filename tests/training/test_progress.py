import re

import pytest

from featlift.training.progress import LineProgress, ProgressBar, SilentProgress, make_progress, track


def test_lines_at_every_tenth(capsys):
    with LineProgress("train", 0, 200) as progress:
        for step in range(1, 201):
            progress.update(step, {"loss": 0.12345} if step > 20 else {})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == [f"{k}/200" for k in range(20, 201, 20)]
    assert re.fullmatch(r"train 20/200 · [\d.]+ it/s · \d+:\d\d left", lines[0])
    assert re.fullmatch(r"train 40/200 · loss 0.1235 · [\d.]+ it/s · \d+:\d\d left", lines[1])


def test_fewer_than_ten_steps(capsys):
    progress = LineProgress("train", 0, 3)
    for step in range(1, 4):
        progress.update(step, {})
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_a_bar_that_starts_in_the_middle():
    with ProgressBar("train", 5, 10) as progress:
        progress.update(8, {"loss": 1.0})
        task = progress.bar.tasks[0]
        assert (task.completed, task.total) == (8, 10)
        assert task.fields["losses"] == "loss 1"
        assert task.fields["pace"].endswith("it/s")


@pytest.mark.parametrize(("is_visible", "kind"), [(False, SilentProgress), (True, LineProgress)])
def test_which_progress_display_is_chosen(is_visible, kind):
    assert type(make_progress("train", 0, 10, is_visible)) is kind


def test_track_yields_every_item_and_can_be_silent(capsys):
    assert list(track(range(3), "detecting")) == [0, 1, 2]
    assert "detecting" in capsys.readouterr().out
    assert list(track(iter("ab"), "detecting", is_visible=False)) == ["a", "b"]
    assert not capsys.readouterr().out
