import json
import re
from dataclasses import asdict

import pytest

from featlift.backbones.timm_backbone import BACKBONE_NORMS
from featlift.cli import options
from featlift.cli.groups import HEADINGS, SHORT_HELP
from featlift.cli.help import format_value
from featlift.cli.option_table import OPTIONS_FILE, load_option_table
from featlift.cli.parser import parse_function_args, parse_training_args
from featlift.cli.verbs import PAPERS
from featlift.commands.list_names import NAME_LISTS
from featlift.commands.search import index
from featlift.deployment.export_formats import EXPORT_FORMATS
from featlift.deployment.export_parts import EXPORTABLE_PARTS
from featlift.detectors.multi_scale import MERGE_FUNCTIONS
from featlift.interpolators import INTERPOLATORS
from featlift.papers import registry
from featlift.retrieval.embedders import EmbedderConfig
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


def test_the_fields_of_an_optional_dataclass_are_options():
    """Every `--embedder` option of `featlift index` becomes a field of the EmbedderConfig; without one it stays None."""
    table, config = (
        load_option_table("index"),
        EmbedderConfig("resnet50", "download", "gem", 96, (0.5, 0.25), "input", "x"),
    )
    words = [f"--embedder.{name.replace('_', '-')}={format_value(value)}" for name, value in asdict(config).items()]
    assert [o.flag for o in table.options if o.name.startswith("embedder.")] == [w.partition("=")[0] for w in words]
    assert parse_function_args(index, table, ["IMAGES", *words])["embedder"] == config
    assert parse_function_args(index, table, ["IMAGES"])["embedder"] is None
    few = ["IMAGES", "--out", "runs/index", "--embedder.encoder", "resnet50", "--embedder.weights", "download"]
    assert parse_function_args(index, table, few)["embedder"] == EmbedderConfig("resnet50", "download")


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
    assert options.CHOICES["format"] == ("onnx", "openvino", "torch-export") == tuple(sorted(EXPORT_FORMATS))
    assert options.CHOICES["part"] == tuple(EXPORTABLE_PARTS)
    assert options.CHOICES["lists"] == tuple(NAME_LISTS)
    assert options.CHOICES["model.norm"] == tuple(BACKBONE_NORMS)
    assert options.CHOICES["merge_method"] == tuple(MERGE_FUNCTIONS)
    assert "afi" in INTERPOLATORS


@pytest.mark.parametrize("name", [*VERBS, *(f"train {paper}" for paper in PAPERS)])
def test_names_and_texts_have_hyphens(name):
    table = load_option_table(name)
    for option in table.options:
        assert not re.search(r"--\w+_", option.flag)
