import importlib
import subprocess
import sys

import pytest

from featlift.cli import main


def paths(commands, *prefix):
    for name, command in commands.items():
        yield from paths(command, *prefix, name) if isinstance(command, dict) else [([*prefix, name], command)]


COMMANDS = list(paths(main.COMMANDS))


@pytest.mark.parametrize(("words", "command"), COMMANDS, ids=[" ".join(words) for words, _ in COMMANDS])
def test_every_command_has_help(words, command, capsys):
    with pytest.raises(SystemExit) as left:
        main.main([*words, "--help"])
    assert left.value.code == 0
    printed = capsys.readouterr().out
    assert f"featlift {' '.join(words)}" in printed
    assert "--config" in printed


@pytest.mark.parametrize("group", ["", *(name for name, command in main.COMMANDS.items() if isinstance(command, dict))])
def test_help_lists_the_commands(group, capsys):
    assert main.main([*group.split(), "--help"]) == 0
    printed = capsys.readouterr().out
    for name in main.COMMANDS[group] if group else main.COMMANDS:
        assert name in printed
    assert main.main(group.split()) == 2


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("trian baseline", 1, "Did you mean 'train'?"),
        ("train afi-gna", 1, "Did you mean 'afi-gan'?"),
        ("frobnicate", 1, "Available: demo, train, evaluate"),
        ("data chek x", 1, "Did you mean 'check'?"),
        ("train afi-gan --sed 3", 2, "Did you mean --seed?"),
        ("train afi-gan --model.chanels 3", 2, "Did you mean --model.pyramid_channels?"),
        ("train srf-gan --channels 3", 2, "Did you mean --model.pyramid_channels?"),
        ("train baseline --stop_after teacher", 2, "--stop_after"),
        ("train baseline --data.batch_size many", 2, "many"),
        ("train baseline --preset fast", 1, "choose one of quick, paper"),
        ("train afi-gan --model.interpolator aif", 1, "Did you mean 'afi'?"),
        ("train afi-gan --model.detector mask-rcn", 1, "Did you mean 'mask-rcnn'?"),
        ("train afi-gan --reuse everything", 1, "choose one of none, G, G_from_M, M"),
        ("train baseline --train.optimizer.name sdg", 1, "choose one of sgd, adam, adamw"),
        ("evaluate", 2, "required: model"),
        ("evaluate nowhere", 1, "There is no file nowhere"),
        ("data check nowhere", 1, "nowhere"),
        ("list colors", 1, "Unknown list 'colors'"),
    ],
)
def test_errors_are_a_sentence(words, code, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        exit_code = main.main(words.split())
    except SystemExit as error:
        exit_code = error.code
    printed = capsys.readouterr()
    assert exit_code == code
    assert message in printed.err
    assert "Traceback" not in printed.err + printed.out
    assert not list(tmp_path.iterdir())  # a mistyped option writes nothing


def test_a_missing_folder_of_images(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main.main(["train", "baseline", "--data", "nowhere", "--run", "mine", "--device", "cpu"]) == 1
    assert "There is no folder nowhere" in capsys.readouterr().err


def test_tracebacks_can_be_enabled(monkeypatch):
    monkeypatch.setenv("FEATLIFT_TRACEBACK", "1")
    with pytest.raises(ValueError, match="trian"):
        main.main(["trian"])


def test_every_command_has_its_function():
    for _, command in COMMANDS:
        module, function = command.function.split(":")
        assert callable(getattr(importlib.import_module(f"featlift.commands.{module}"), function))


def test_help_and_version_import_nothing_heavy():
    code = (
        "import sys; from featlift.cli import main; main.main(['--help']); main.main(['--version']); main.main(['train', '--help']);"
        "sys.exit(' '.join({'torch', 'timm', 'matplotlib', 'jsonargparse', 'hotcoco'} & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "usage: featlift" in done.stdout
