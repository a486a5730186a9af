from pathlib import Path

import pytest

from featlift import baseline
from featlift.cli import parser
from featlift.papers import afi_gan, srf_gan

PAPERS = {"baseline": baseline, "afi-gan": afi_gan, "srf-gan": srf_gan}


def parsed(*words, paper="afi-gan"):
    return parser.parse_training_args(paper, f"featlift train {paper}", words)


@pytest.mark.parametrize("preset", parser.PRESETS)
@pytest.mark.parametrize("paper", PAPERS)
def test_presets_are_what_python_says(paper, preset):
    settings_class = PAPERS[paper].Settings
    if preset != "paper" and not hasattr(settings_class, preset):
        with pytest.raises(ValueError, match=f"Unknown preset '{preset}'; choose one of quick, paper"):
            parsed("--preset", preset, paper=paper)
        return
    expected = settings_class() if preset == "paper" else getattr(settings_class, preset)()
    assert parsed("--preset", preset, paper=paper)["settings"] == expected
    assert parsed(f"--preset={preset}", paper=paper)["run_options"].run == Path(f"runs/{paper}")


def test_options_change_a_preset():
    args = parsed(
        "--adversarial.weight", "0.5", "--interpolator.optimizer.lr=0.25", "--stop_after", "extractor", "--seed", "7"
    )
    assert args["settings"].adversarial.weight == 0.5
    assert args["settings"].interpolator.optimizer.lr == 0.25
    assert args["settings"].interpolator.steps == afi_gan.Settings.quick().interpolator.steps
    assert (args["run_options"].stop_after, args["run_options"].seed) == ("extractor", 7)


def test_a_yaml_file_changes_a_preset_and_options_change_it_again(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("model:\n  pyramid_channels: 16\n  backbone: resnet18\nreuse: none\n")
    settings = parsed("--config", str(file), "--model.pyramid_channels", "24")["settings"]
    assert (settings.model.pyramid_channels, settings.model.backbone, settings.reuse) == (24, "resnet18", "none")


@pytest.mark.parametrize("words", [["--data", "some/folder"], ["--data=some/folder"], ["--data.root", "some/folder"]])
def test_data_is_short_for_its_root(words):
    data = parsed(*words)["settings"].data
    assert (data.root, data.batch_size) == ("some/folder", 8)


@pytest.mark.parametrize(
    "words",
    [
        ["--data.skip-broken"],
        ["--skip-broken"],
        ["--skip_broken", "true"],
        ["--data.skip_broken", "true"],
        ["--data.skip-broken=true"],
        ["--data.skip-broken", "--seed", "1"],
    ],
)
def test_yes_needs_no_value_and_hyphens_do(words):
    assert parsed(*words)["settings"].data.skip_broken is True


def test_no_can_be_said():
    assert parsed("--downscale.same-flip", "false")["settings"].downscale.same_flip is False


def some(first: str, names: list[str], size: int = 3, loud: bool = False) -> None:
    """Something.

    Args:
        first: the first.
        names: the others.
        size: of it.
        loud: or not.
    """


def test_a_functions_arguments():
    read = lambda *words: parser.parse_function_args(some, "some", "Something.", words)  # noqa: E731
    assert read("a", "b", "c", "--size", "5") == {"first": "a", "names": ["b", "c"], "size": 5, "loud": False}
    assert read("a", "b", "--loud") == {"first": "a", "names": ["b"], "size": 3, "loud": True}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a"], "names"),
        ([], "required"),
        (["a", "b", "--sise", "5"], "Did you mean --size?"),
        (["a", "b", "--size", "many"], "many"),
    ],
)
def test_words_that_do_not_fit(words, message, capsys):
    with pytest.raises(SystemExit) as left:
        parser.parse_function_args(some, "some", "Something.", words)
    assert left.value.code == 2
    assert message in capsys.readouterr().err
