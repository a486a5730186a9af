import json
import re

import pytest

from featlift.cli import options
from featlift.cli.groups import HEADINGS, SHORT_HELP
from featlift.cli.option_table import OPTIONS_FILE, load_option_table
from featlift.cli.parser import parse_function_args, parse_training_args
from featlift.cli.verbs import PAPERS
from featlift.interpolators import INTERPOLATORS
from featlift.papers import registry
from featlift.training.optimizer import OPTIMIZERS, SCHEDULES

VERBS = dict(options.list_commands())


def test_the_file_is_what_signatures_and_presets_say_now():
    message = "src/featlift/cli/options.json is out of date: run python -m featlift.cli.options"
    assert json.loads(OPTIONS_FILE.read_text()) == options.build_options(), message


def typed(option):
    """A word that the option accepts."""
    value = option.default
    if value is None:
        return (
            "null"
            if option.type.endswith("None")
            else {"int": "3", "float": "0.5", "bool": "true"}.get(option.type, "x")
        )
    return value if isinstance(value, str) else json.dumps(value)


@pytest.mark.parametrize("paper", PAPERS)
def test_every_option_of_a_training_exists(paper):
    table = load_option_table(f"train {paper}")
    names = [o for o in table.options if o.name not in ("config", "preset")]
    nested_optional = ("regularization.", "detector_optimizer.")
    words = [f"{o.flag}={typed(o)}" for o in names if not o.name.startswith(nested_optional)]
    parsed = parse_training_args(paper, ["--preset", "paper", *words])
    assert parsed["settings"] == registry.PAPERS[paper].preset("paper")
    for prefix in {o.name.partition(".")[0] for o in names if o.name.startswith(nested_optional)}:
        fields = [f"{o.flag}={typed(o)}" for o in names if o.name.startswith(f"{prefix}.") and o.default is not None]
        assert parse_training_args(paper, ["--preset", "paper", *fields])["paper"] == paper


@pytest.mark.parametrize("name", VERBS)
def test_every_option_of_a_verb_exists(name):
    from importlib import import_module

    module, attribute = VERBS[name].function.split(":")
    function = getattr(import_module(f"featlift.commands.{module}"), attribute)
    table = load_option_table(name)
    positionals = ["x" for option in table.positionals() if option.required]
    words = [f"{o.flag}={typed(o)}" for o in table.options if not o.positional and o.name != "config"]
    parse_function_args(function, table, [*positionals, *words])


@pytest.mark.parametrize("name", [*VERBS, *(f"train {paper}" for paper in PAPERS)])
def test_every_option_is_explained(name):
    for option in load_option_table(name).options:
        assert len(option.help) > 5, option.name
        assert "`" not in option.help
        assert option.heading in (*HEADINGS, "arguments", "options")


@pytest.mark.parametrize("paper", PAPERS)
def test_the_short_help_has_options_that_exist(paper):
    names = [option.name for option in load_option_table(f"train {paper}").options]
    assert names[: len(SHORT_HELP[paper])] == list(SHORT_HELP[paper])


@pytest.mark.parametrize("name", [*VERBS, *(f"train {paper}" for paper in PAPERS)])
def test_auto_is_the_default_of_every_device(name):
    for option in load_option_table(name).options:
        if option.name.rpartition(".")[2] == "device":
            assert option.default == "auto"


def test_choices_are_those_of_the_code():
    assert options.CHOICES["optimizer.name"] == OPTIMIZERS
    assert options.CHOICES["optimizer.schedule"] == SCHEDULES
    assert "afi" in INTERPOLATORS


@pytest.mark.parametrize("name", [*VERBS, *(f"train {paper}" for paper in PAPERS)])
def test_names_and_texts_have_hyphens(name):
    table = load_option_table(name)
    for option in table.options:
        assert not re.search(r"--\w+_", option.flag)
