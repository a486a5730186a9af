import errno
import json

import pytest

from featlift.cli import main
from featlift.cli.error_messages import describe_error

CAUGHT = "Caught ImageReadError in DataLoader worker process 1.\nOriginal Traceback (most recent call last):\n  File\n"


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ValueError("Choose a or b."), "Choose a or b."),
        (
            OSError(errno.ENOSPC, "No space left on device", "runs/a.bin"),
            "The disk is full (runs/a.bin). Make room, and",
        ),
        (
            OSError("x cannot be written: I/O error: No space left on device (os error 28)"),
            "The disk is full (x cannot",
        ),
        (OSError(errno.EMFILE, "Too many open files", "a"), "Too many open files (a). Raise the limit with ulimit -n"),
        (PermissionError(errno.EACCES, "Permission denied", "a"), "[Errno 13] Permission denied: 'a'"),
        (MemoryError(), "Out of memory (no message). Lower the batch size"),
        (
            KeyError("boxes"),
            "KeyError: 'boxes'. A damaged file, or a fault of FeatLift: FEATLIFT_TRACEBACK=1 shows where.",
        ),
        (RuntimeError("sizes differ\n at 3"), "RuntimeError: sizes differ. A damaged file"),
        (RecursionError(), "RecursionError: no message."),
        (OverflowError("int too large"), "OverflowError: int too large."),
        (ValueError(CAUGHT + "featlift.data.image_io.ImageReadError: a.png is broken: cut"), "a.png is broken: cut"),
        (UnicodeEncodeError("utf-8", "\udce9", 0, 1, "surrogates not allowed"), "A name or file is not in UTF-8: "),
    ],
)
def test_one_sentence(error, sentence):
    text = describe_error(error)
    assert text.startswith(sentence)
    assert "\n" not in text


def test_damaged_json():
    with pytest.raises(json.JSONDecodeError) as error:
        json.loads("{")
    assert describe_error(error.value).startswith("A JSON file is damaged: Expecting property name")


def outcome(monkeypatch, capsys, error):
    def fail(*arguments):
        raise error

    monkeypatch.setattr(main, "_dispatch", fail)
    return main.main(["list"]), capsys.readouterr().err


def test_any_error_is_a_sentence_with_code_1(monkeypatch, capsys):
    code, text = outcome(monkeypatch, capsys, KeyError("boxes"))
    assert (code, text.count("\n")) == (1, 1)
    assert text.startswith("featlift: KeyError: 'boxes'")


def test_ctrl_c_is_one_line(monkeypatch, capsys):
    assert outcome(monkeypatch, capsys, KeyboardInterrupt()) == (130, "featlift: interrupted\n")


@pytest.mark.parametrize("error", [KeyError("boxes"), KeyboardInterrupt()])
def test_tracebacks_are_for_those_who_want_them(monkeypatch, capsys, error):
    monkeypatch.setenv("FEATLIFT_TRACEBACK", "1")
    with pytest.raises(type(error)):
        outcome(monkeypatch, capsys, error)
