from dataclasses import replace
from pathlib import Path

import pytest

from featlift.cli import parser
from featlift.cli.arguments import UsageError
from featlift.cli.option_table import Option, OptionTable
from featlift.detectors import DETECTORS
from featlift.papers.registry import PAPERS
from featlift.runs.presets import PRESETS


def parse(*words, paper="afi-gan"):
    return parser.parse_training_args(paper, words)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("paper", PAPERS)
def test_presets_are_those_of_the_settings(paper, preset):
    if preset not in PAPERS[paper].presets:
        names = [name for name in PRESETS if name in PAPERS[paper].presets]
        with pytest.raises(ValueError, match=f"Unknown preset '{preset}'.* Choose one of: {', '.join(names)}"):
            parse("--preset", preset, paper=paper)
        return
    parsed = parse("--preset", preset, paper=paper)
    assert parsed["settings"] == PAPERS[paper].preset(preset)
    assert parsed["run_options"].run == Path(f"runs/{paper}")
    assert parse(f"--preset={preset}", paper=paper)["preset"] == preset


@pytest.mark.parametrize("paper", ["baseline", "afi-gan", "srf-gan", "efpn", "light"])
@pytest.mark.parametrize(
    ("words", "preset"),
    [
        ([], "quick"),
        (["--data", "scenes"], "quick"),
        (["--data", "some/folder"], "finetune"),
        (["--data.root=some/folder"], "finetune"),
        (["--data", "some/folder", "--preset", "quick"], "quick"),
    ],
)
def test_ones_own_images_are_finetuned(paper, words, preset):
    assert parse(*words, paper=paper)["preset"] == preset


@pytest.mark.parametrize("paper", ["fsr-gan", "fdsr"])
def test_papers_without_finetune_stay_quick(paper):
    assert parse("--data", "some/folder", paper=paper)["preset"] == "quick"


def test_a_yaml_file_names_the_images_too(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("data:\n  root: some/folder\n  batch-size: 3\n")
    parsed = parse("--config", str(file))
    assert (parsed["preset"], parsed["settings"].data.root) == ("finetune", "some/folder")
    assert parsed["settings"].data.batch_size == 3
    file.write_text("data: some/folder\npreset: paper\n")
    assert parse("--config", str(file))["preset"] == "paper"


def test_options_change_a_preset():
    parsed = parse(
        "--adversarial.weight", "0.5", "--interpolator.optimizer.lr=0.25", "--stop_after", "extractor", "--seed", "7"
    )
    assert parsed["settings"].adversarial.weight == 0.5
    assert parsed["settings"].interpolator.optimizer.lr == 0.25
    assert parsed["settings"].interpolator.steps == PAPERS["afi-gan"].preset("quick").interpolator.steps
    assert (parsed["run_options"].stop_after, parsed["run_options"].seed) == ("extractor", 7)


def test_a_yaml_file_changes_a_preset_and_options_change_it_again(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("model:\n  pyramid_channels: 16\n  backbone: resnet18\nreuse: none\n")
    settings = parse("--config", str(file), "--model.pyramid-channels", "24")["settings"]
    assert (settings.model.pyramid_channels, settings.model.backbone, settings.reuse) == (24, "resnet18", "none")


@pytest.mark.parametrize(
    ("text", "message"),
    [("model:\n  chanels: 3\n", "--model.pyramid-channels"), ("- a\n", "has no options"), ("a: [", "not valid YAML")],
)
def test_a_wrong_yaml_file(text, message, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(UsageError, match=message):
        parse("--config", str(file))


@pytest.mark.parametrize("words", [["--data", "some/folder"], ["--data=some/folder"], ["--data.root", "some/folder"]])
def test_data_is_short_for_its_root(words):
    data = parse(*words, "--preset", "quick")["settings"].data
    assert (data.root, data.batch_size) == ("some/folder", 8)


def test_data_of_fsr_gan_is_a_folder_of_classes():
    collection = parse("--data", "some/folder", paper="fsr-gan")["settings"].collection
    assert (collection.name, collection.image_folder, collection.train_images) == (
        "class-folders",
        "some/folder",
        "database",
    )


@pytest.mark.parametrize(
    "words",
    [
        ["--data.skip-broken"],
        ["--skip-broken"],
        ["--skip_broken", "true"],
        ["--skip-broken", "yes"],
        ["--data.skip_broken", "true"],
        ["--data.skip-broken=true"],
        ["--data.skip-broken", "--seed", "1"],
    ],
)
def test_switches_need_no_value_and_names_have_hyphens_or_underscores(words):
    assert parse(*words)["settings"].data.skip_broken is True


@pytest.mark.parametrize("no", ["false", "no", "False"])
def test_switches_can_be_turned_off(no):
    assert parse("--downscale.same-flip", no)["settings"].downscale.same_flip is False


@pytest.mark.parametrize(
    ("words", "sizes"),
    [("640,800", (640, 800)), ("800", (800,)), ("[640,800]", (640, 800)), ("none", ()), ("[]", ())],
)
def test_lists_are_written_with_commas(words, sizes):
    assert parse("--data.min-size", words)["settings"].data.min_size == sizes


def test_none_is_the_absence_of_a_value():
    settings = parse("--target.optimizer.max-grad-norm", "none", "--model.mean-std", "0.5,0.25")["settings"]
    assert settings.target.optimizer.max_grad_norm is None
    assert settings.model.mean_std == (0.5, 0.25)


def test_optional_settings_are_built_from_their_fields():
    assert parse(paper="fdsr")["settings"].detector_optimizer is None
    optimizer = parse("--detector-optimizer.lr", "0.5", paper="fdsr")["settings"].detector_optimizer
    assert (optimizer.lr, optimizer.name) == (0.5, "sgd")


@pytest.mark.parametrize("detector", DETECTORS)
def test_options_belong_to_the_kind_of_detector(detector):
    for paper, preset in [("baseline", preset) for preset in PAPERS["baseline"].presets] + [("efpn", "paper")]:
        settings = parse("--preset", preset, "--model.detector", detector, paper=paper)["settings"]
        before = PAPERS[paper].preset(preset).model
        if detector == before.detector:
            assert settings.model == before
            continue
        kept = {
            name: value for name, value in before.detector_options.items() if name in ("test_size", "max_detections")
        }
        assert settings.model == replace(before, detector=detector, detector_options=kept)


def test_typed_options_of_the_detector_are_kept():
    words = ("--model.detector", "fcos", "--model.detector-options.test-size", "[320, 400]")
    assert parse(*words)["settings"].model.detector_options == {"test_size": [320, 400]}
    quick = PAPERS["afi-gan"].preset("quick").model.detector_options
    options = parse("--model.detector-options.fc-dim", "64")["settings"].model.detector_options
    assert options == {**quick, "fc_dim": 64}


@pytest.mark.parametrize("conf", ["--conf", "--preci", "--dat"])
def test_prefixes_are_not_taken_for_options(conf):
    with pytest.raises(UsageError, match=f"no option {conf}"):
        parse(conf, "0.3")


def some(
    first: str, names: list[str], size: int = 3, loud: bool = False, by_name: dict[str, str] | None = None
) -> None:
    """Something."""


SOME = OptionTable(
    "some",
    (
        Option("first", "str", positional=True, required=True, help="the first."),
        Option("names", "list[str]", positional=True, required=True),
        Option("size", "int", 3),
        Option("loud", "bool", False),
        Option("by_name", "dict[str, str] | None"),
    ),
)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("a b c --size 5", {"names": ["b", "c"], "size": 5}),
        ("a b --loud", {"loud": True}),
        ("--loud a b", {"loud": True}),
        ("a --size=-5 b", {"size": -5}),
        ("a b --by-name.my-net x --by-name.two y", {"by_name": {"my-net": "x", "two": "y"}}),
        ("--first a b", {}),
    ],
)
def test_the_arguments_of_a_function(words, expected):
    assert (
        parser.parse_function_args(some, SOME, words.split())
        == {
            "first": "a",
            "names": ["b"],
            "size": 3,
            "loud": False,
            "by_name": None,
        }
        | expected
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("a", "NAMES is missing"),
        ("", "FIRST is missing: the first."),
        ("a b --sise 5", "no option --sise. Did you mean --size?"),
        ("a b --size many", "--size: Expected int. Got value: many"),
        ("a b --size", "--size needs a value"),
        ("a b --size --loud", "--size needs a value"),
    ],
)
def test_words_that_do_not_fit(words, message):
    with pytest.raises(UsageError, match=message.replace("?", r"\?")):
        parser.parse_function_args(some, SOME, words.split())
