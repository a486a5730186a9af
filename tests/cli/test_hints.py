"""Every hint of the literal table names an option or verb that exists."""

import re

import pytest

from featlift.cli.arguments import UsageError, read_assignments
from featlift.cli.groups import MAIN_STAGES
from featlift.cli.hints import OPTION_HABITS, find_habit, suggest_option
from featlift.cli.option_table import load_option_table
from featlift.cli.options import list_commands
from featlift.cli.verbs import COMMANDS, PAPERS

TABLES = [load_option_table(name) for name in [name for name, _ in list_commands()] + [f"train {p}" for p in PAPERS]]
HABITS = ["lr", "batch_size", "epochs", "imgsz", "conf", "source", "resume", "pretrained", "weights", "workers"]
HABITS += ["project", "name", "val"]


def flags(table):
    return {option.flag for option in table.options} | ({"--data"} if table.presets else set())


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.command)
@pytest.mark.parametrize("habit", OPTION_HABITS)
def test_a_hint_names_what_exists(habit, table):
    hint = find_habit(habit, table)
    named = re.search(r"featlift (\w+)", hint)
    if named and "'" in hint:
        assert named[1] in COMMANDS
        words = re.search(r"featlift (train \S+?|\w[\w-]*)'", hint)[1]
        table = load_option_table(words)
    for flag in re.findall(r"--[\w.-]*\w", hint):
        assert flag in flags(table), hint


@pytest.mark.parametrize("paper", PAPERS)
@pytest.mark.parametrize("habit", HABITS)
def test_every_habit_is_met_in_a_training(habit, paper):
    table = load_option_table(f"train {paper}")
    if table.find(habit):
        return
    with pytest.raises(UsageError) as raised:
        read_assignments([f"--{habit.replace('_', '-')}", "3"], table)
    assert find_habit(habit, table) in str(raised.value)
    assert find_habit(habit, table)


ALWAYS_MET = ["patience", "classes", "save_txt", "show", "iou", "nms", "half", "amp", "cache", "exist_ok"]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.command)
@pytest.mark.parametrize("habit", ALWAYS_MET)
def test_options_of_other_detectors_are_never_mistaken_for_a_misspelling(habit, table):
    assert find_habit(habit, table)
    assert "Did you mean" not in suggest_option(habit, table)


@pytest.mark.parametrize(
    ("command", "habit", "hint"),
    [
        ("train afi-gan", "lr", "--target.optimizer.lr sets the learning rate"),
        ("train efpn", "lr", "--detector.optimizer.lr sets the learning rate"),
        ("train fsr-gan", "lr", "--optimizer.lr sets the learning rate"),
        ("train baseline", "imgsz", "--data.min-size and --data.max-size"),
        ("train baseline", "epochs", "FeatLift counts steps: --train.steps"),
        ("train baseline", "resume", "The same command with the same --run resumes."),
        ("predict", "conf", "--score-threshold"),
        ("predict", "source", "featlift predict RUN IMAGES"),
        ("compare", "weights", "FIRST SECOND"),
        ("evaluate", "checkpoint", "MODEL"),
    ],
)
def test_hints(command, habit, hint):
    assert hint in find_habit(habit, load_option_table(command))


def test_every_paper_has_a_main_stage_with_an_optimizer():
    assert set(MAIN_STAGES) == set(PAPERS)
    for paper, stage in MAIN_STAGES.items():
        assert load_option_table(f"train {paper}").find(f"{stage}.optimizer.lr".lstrip("."))
