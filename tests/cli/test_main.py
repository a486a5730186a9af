import importlib.util
import subprocess
import sys

import pytest

from featlift.cli import main


def paths(verbs, *before):
    for name, verb in verbs.items():
        yield from paths(verb, *before, name) if isinstance(verb, dict) else [([*before, name], verb)]


EVERY = list(paths(main.COMMANDS))


@pytest.mark.parametrize(("words", "verb"), EVERY, ids=[" ".join(words) for words, _ in EVERY])
def test_every_verb_explains_itself(words, verb, capsys):
    with pytest.raises(SystemExit) as left:
        main.main([*words, "--help"])
    assert left.value.code == 0
    told = capsys.readouterr().out
    assert f"featlift {' '.join(words)}" in told
    assert "--config" in told


@pytest.mark.parametrize("group", ["", *(name for name, verb in main.COMMANDS.items() if isinstance(verb, dict))])
def test_help_lists_the_verbs(group, capsys):
    assert main.main([*group.split(), "--help"]) == 0
    told = capsys.readouterr().out
    for name in main.COMMANDS[group] if group else main.COMMANDS:
        assert name in told
    assert main.main(group.split()) == 2


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ("trian baseline", 1, "Did you mean 'train'?"),
        ("train afi-gna", 1, "Did you mean 'afi-gan'?"),
        ("frobnicate", 1, "There are: demo, train, evaluate"),
        ("data chek x", 1, "Did you mean 'check'?"),
        ("train afi-gan --sed 3", 2, "Did you mean --seed?"),
        ("train afi-gan --model.chanels 3", 2, "Did you mean --model.pyramid_channels?"),
        ("train srf-gan --channels 3", 2, "Did you mean --model.pyramid_channels?"),
        ("train baseline --stop_after teacher", 2, "--stop_after"),
        ("train baseline --data.batch_size many", 2, "many"),
        ("train baseline --preset fast", 1, "there are quick, paper"),
        ("train afi-gan --model.interpolator aif", 1, "Did you mean 'afi'?"),
        ("train afi-gan --model.detector mask-rcn", 1, "Did you mean 'mask-rcnn'?"),
        ("train afi-gan --reuse everything", 1, "choose one of none, G, G_from_M, M"),
        ("train baseline --train.optimizer.name sdg", 1, "choose one of sgd, adam, adamw"),
        ("evaluate", 2, "required: run"),
        ("evaluate nowhere", 1, "There is no file nowhere"),
        ("data check nowhere", 1, "nowhere"),
        ("list colors", 1, "Unknown list 'colors'"),
    ],
)
def test_errors_are_a_sentence(words, code, told, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        found = main.main(words.split())
    except SystemExit as left:
        found = left.code
    said = capsys.readouterr()
    assert found == code
    assert told in said.err
    assert "Traceback" not in said.err + said.out
    assert not list(tmp_path.iterdir())  # a mistyped word leaves nothing behind


def test_a_missing_folder_of_pictures(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main.main(["train", "baseline", "--data", "nowhere", "--run", "mine", "--device", "cpu"]) == 1
    assert "There is no folder nowhere" in capsys.readouterr().err


def test_tracebacks_can_be_asked_for(monkeypatch):
    monkeypatch.setenv("FEATLIFT_TRACEBACK", "1")
    with pytest.raises(ValueError, match="trian"):
        main.main(["trian"])


def test_every_verb_has_its_function():
    for _, verb in EVERY:
        module, _ = verb.function.split(":")
        assert importlib.util.find_spec(f"featlift.commands.{module}"), module


def test_help_and_version_import_nothing_heavy():
    code = (
        "import sys; from featlift.cli import main; main.main(['--help']); main.main(['--version']); main.main(['train', '--help']);"
        "sys.exit(' '.join({'torch', 'timm', 'matplotlib', 'jsonargparse', 'hotcoco'} & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "usage: featlift" in done.stdout
