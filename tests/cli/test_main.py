import importlib
import re
import subprocess
import sys

import pytest

from featlift.cli import main
from featlift.cli.hints import VERB_HABITS, VERB_HINTS
from featlift.cli.verbs import COMMANDS


def paths(commands, *prefix):
    for name, command in commands.items():
        yield from paths(command, *prefix, name) if isinstance(command, dict) else [([*prefix, name], command)]


ALL_COMMANDS = list(paths(COMMANDS))
IDS = [" ".join(words) for words, _ in ALL_COMMANDS]


def run(words, capsys):
    code = main.main(words if isinstance(words, list) else words.split())
    return code, capsys.readouterr()


@pytest.mark.parametrize("group", ["", *(name for name, command in COMMANDS.items() if isinstance(command, dict))])
def test_help_lists_the_commands(group, capsys):
    code, printed = run([*group.split(), "--help"], capsys)
    assert code == 0
    for name in COMMANDS[group] if group else COMMANDS:
        assert name in printed.out
    assert main.main(group.split()) == 2


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("trian baseline", 2, "Did you mean 'train'?"),
        ("val runs/afi", 2, "Did you mean 'evaluate'?"),
        ("detect runs/afi image.jpg", 2, "Did you mean 'predict'?"),
        ("train afi-gna", 2, "Did you mean 'afi-gan'?"),
        ("frobnicate", 2, "Available: demo, train, evaluate"),
        ("data chek x", 2, "Did you mean 'check'?"),
        ("train afi-gan --sed 3", 2, "Did you mean --seed?"),
        ("train afi-gan --model.chanels 3", 2, "Did you mean --model.pyramid-channels?"),
        ("train srf-gan --channels 3", 2, "Did you mean --model.pyramid-channels?"),
        ("train srf-gan --lr 3", 2, "--target.optimizer.lr sets the learning rate of the stage 'target'"),
        ("train baseline --stop_after teacher", 2, "no option --stop_after"),
        ("train baseline --data.batch_size many", 2, "--data.batch-size: Expected int"),
        ("train baseline --data.batch-size", 2, "--data.batch-size needs a value"),
        ("train baseline --preset fast", 2, "Choose one of: quick, finetune, paper"),
        ("train baseline folder", 2, "'folder' is one argument too many"),
        ("train baseline epochs=3", 2, "--train.steps = epochs * images / batch size"),
        ("train afi-gan --model.interpolator aif", 1, "Did you mean 'afi'?"),
        ("train afi-gan --model.detector mask-rcn", 1, "Did you mean 'mask-rcnn'?"),
        ("train afi-gan --reuse everything", 1, "choose one of none, G, G_from_M, M"),
        ("train baseline --train.optimizer.name sdg", 2, "choose one of sgd, adam, adamw"),
        ("train baseline --config nowhere.yaml", 2, "there is no file nowhere.yaml"),
        ("train baseline --model fcos", 2, "--model takes a YAML file; did you mean --model.detector fcos?"),
        ("train baseline --model mine.yaml", 2, "--model takes a YAML file; there is no file mine.yaml"),
        ("train fsr-gan --embedder gist", 2, "did you mean --embedder.encoder gist?"),
        ("train baseline --train.optimizer sgd", 2, "did you mean --train.optimizer.name sgd?"),
        ("train fdsr --degradation noise", 2, "or one of its options: --degradation.blur-sigma, "),
        ("index IMAGES --embedder gist", 2, "did you mean --embedder.encoder gist?"),
        ("predict runs/afi image.jpg --config 0.3", 2, "--config takes a YAML file; there is no file 0.3"),
        ("export runs/afi --format tensorrt", 2, "Unknown format 'tensorrt'; choose one of onnx, openvino"),
        ("predict runs/afi image.jpg --conf 0.3", 2, "--score-threshold"),
        ("predict runs/afi image.jpg --scor 0.3", 2, "Did you mean --score-threshold?"),
        ("evaluate", 2, "MODEL is missing"),
        ("evaluate nowhere", 1, "There is no file nowhere"),
        ("data check nowhere", 1, "nowhere"),
        ("list colors", 2, "Unknown list 'colors'"),
    ],
)
def test_errors_are_a_sentence(words, code, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exit_code, printed = run(words, capsys)
    assert exit_code == code
    assert message in printed.err
    assert "Traceback" not in printed.err + printed.out
    assert not list(tmp_path.iterdir())  # a mistyped option writes nothing


def test_a_wrong_call_names_the_help(capsys):
    assert "featlift train efpn --help lists the options." in run("train efpn --lr 3", capsys)[1].err


@pytest.mark.parametrize(("habit", "verb"), VERB_HABITS.items())
def test_verbs_of_other_toolkits_lead_to_a_verb(habit, verb, capsys):
    assert habit not in COMMANDS
    assert verb in COMMANDS
    assert f"Did you mean '{verb}'?" in run([habit], capsys)[1].err


@pytest.mark.parametrize("verb", VERB_HINTS)
def test_verbs_that_featlift_lacks_have_a_hint(verb, capsys):
    code, printed = run([verb], capsys)
    assert code == 2
    assert verb not in COMMANDS
    assert VERB_HINTS[verb] in printed.err
    assert "Did you mean" not in printed.err
    for named in re.findall(r"'featlift ([a-z]+)", VERB_HINTS[verb]):
        assert named in COMMANDS


REFUSED = {
    "an unknown folder": ["--data", "nowhere"],
    "an unknown backbone": ["--model.backbone", "resnet5000"],
    "an unknown device": ["--device", "quantum"],
    "a GPU that is not there": ["--device", "cuda:99"],
    "an unknown precision": ["--precision", "fp7"],
    "an unknown detector": ["--model.detector", "yolo"],
    "an unknown pyramid": ["--model.pyramid", "cone"],
    "an unknown interpolator": ["--model.interpolator", "psychic"],
    "options of another detector": ["--model.detector", "fcos", "--model.detector-options.anchor-scale", "8"],
    "an interpolator that has no such option": ["--model.interpolator-options.charm", "8"],
    "no steps between checkpoints": ["--save-every", "0"],
    "a start that is not there": ["--init-from", "nowhere"],
    "weights that are not there": ["--model.backbone-weights", "nowhere.pth"],
}


@pytest.mark.parametrize("refused", REFUSED)
def test_a_refused_training_leaves_nothing(refused, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [] if "--device" in REFUSED[refused] else ["--device", "cpu"]
    code, printed = run(["train", "baseline", "--run", "some/run", *words, *REFUSED[refused]], capsys)
    assert code in (1, 2)
    assert "Traceback" not in printed.err
    assert len(printed.err.splitlines()) < 12
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("paper", "words"),
    [
        ("afi-gan", ["--stop-after", "dinner"]),
        ("afi-gan", ["--interpolator-from", "nowhere"]),
        ("afi-gan", ["--extractor-detector", "yolo"]),
        ("afi-gan", ["--teacher-from", "nowhere"]),
        ("light", ["--teachers-from", "nowhere"]),
        ("light", ["--target-init", "luck"]),
        ("efpn", ["--model.detector", "fcos"]),
        ("efpn", ["--detector-from", "nowhere"]),
        ("fdsr", ["--feature-extractor.network", "nowhere"]),
        ("fdsr", ["--network.name", "paint"]),
        ("fsr-gan", ["--collection.name", "holiday-photos"]),
        ("fsr-gan", ["--generator", "diesel"]),
    ],
)
def test_a_refused_paper_leaves_no_run(paper, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(["train", paper, "--run", "some/run", "--device", "cpu", *words], capsys)[0] in (1, 2)
    assert not (tmp_path / "some").exists()


def test_the_preset_is_printed(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    printed = run(["train", "baseline", "--device", "quantum"], capsys)[1]
    assert printed.out.startswith("preset quick: a small network")


def test_papers_without_finetune_say_what_other_presets_do(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for paper, words in {"fdsr": "--preset short", "fsr-gan": "--embedder.weights FILE"}.items():
        printed = run(["train", paper, "--data", "nowhere", "--device", "quantum"], capsys)[1].out
        assert printed.startswith("preset quick: ")
        assert "On your own images" in printed
        assert words in printed
        assert "On your own images" not in run(["train", paper, "--device", "quantum"], capsys)[1].out


def test_tracebacks_can_be_enabled(monkeypatch):
    monkeypatch.setenv("FEATLIFT_TRACEBACK", "1")
    with pytest.raises(ValueError, match="trian"):
        main.main(["trian"])


def test_every_command_has_its_function():
    for _, command in ALL_COMMANDS:
        module, function = command.function.split(":")
        assert callable(getattr(importlib.import_module(f"featlift.commands.{module}"), function))


HEAVY = {"torch", "torchvision", "numpy", "timm", "matplotlib", "jsonargparse", "hotcoco", "rich", "yaml"}


def imported_by(*calls):
    code = (
        f"import sys; from featlift.cli import main; codes = [main.main(words.split()) for words in {list(calls)!r}];"
    )
    code += f"print(codes, file=sys.stderr); sys.exit(' '.join({HEAVY!r} & set(sys.modules)) or None)"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)


def test_help_and_version_import_nothing_heavy():
    calls = [f"{words} --help" for words in IDS] + [f"{words} --help-all" for words in IDS]
    done = imported_by("--help", "--version", "train --help", "train afi-gan --preset paper --data x --help", *calls)
    assert done.returncode == 0, done.stderr
    assert "usage: featlift" in done.stdout


def test_mistyped_options_import_nothing_heavy():
    done = imported_by("train afi-gan --lr 3", "predict", "predict a b --conf 3", "val")
    assert done.returncode == 0, done.stderr
