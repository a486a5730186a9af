import re

import pytest

from featlift.cli import main
from featlift.cli.help import WIDTH, format_value
from featlift.cli.option_table import load_option_table
from featlift.cli.verbs import COMMANDS, PAPERS, Command

VERBS = [name for name, command in COMMANDS.items() if isinstance(command, Command)] + ["data generate", "data check"]


def show(words, capsys):
    assert main.main(words.split()) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("words", ["", "--preset paper ", "--data FOLDER "])
@pytest.mark.parametrize("paper", PAPERS)
def test_the_help_of_a_training_fits_two_screens(paper, words, capsys):
    lines = show(f"train {paper} {words}--help", capsys).splitlines()
    assert sum(option.short for option in load_option_table(f"train {paper}").options) <= 24
    assert len(lines) <= 80
    assert max(map(len, lines)) <= WIDTH
    assert "(required)" not in "\n".join(lines)


@pytest.mark.parametrize("name", [*VERBS, *(f"train {paper}" for paper in PAPERS)])
def test_help_lists_all_options_on_request(name, capsys):
    printed = show(f"{name} --help-all", capsys)
    table = load_option_table(name)
    for option in table.options:
        flag = "--data" if option.name == "data.root" else option.flag
        assert re.search(rf"^  {re.escape(flag)}\b", printed, re.M), flag
    assert max(map(len, printed.splitlines())) <= WIDTH


@pytest.mark.parametrize("name", VERBS)
def test_the_help_of_a_verb_has_all_options_and_an_example(name, capsys):
    printed = show(f"{name} --help", capsys)
    assert printed == show(f"{name} --help-all", capsys)
    assert f"example: featlift {name} " in printed
    assert printed.startswith(f"usage: featlift {name}")


def test_the_help_of_a_training_has_the_usual_parts(capsys):
    printed = show("train afi-gan --help", capsys)
    assert "example: featlift train afi-gan --data FOLDER --run runs/afi" in printed
    for heading in ("presets (defaults below: quick", "data:", "model:", "optimizer and schedule:", "stages:", "run:"):
        assert f"\n{heading}" in printed
    assert "--teacher.steps INT" in printed
    assert not re.search(r"--[\w.-]*_", printed)


def test_defaults_are_those_of_the_preset(capsys):
    line = re.compile(r"--target\.steps.*?\[([\d]+)\]", re.S)
    assert line.search(show("train afi-gan --help", capsys))[1] == "300"
    assert line.search(show("train afi-gan --preset paper --help", capsys))[1] == "90000"
    assert "defaults below: finetune" in show("train afi-gan --data FOLDER --help", capsys)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "none"),
        ([], "none"),
        ([640, 800], "640,800"),
        (True, "yes"),
        (0.0001, "0.0001"),
        (90000, "90000"),
        ({"test_size": [800, 1333]}, "test_size: 800,1333"),
    ],
)
def test_values_are_printed_as_they_are_typed(value, text):
    assert format_value(value) == text
