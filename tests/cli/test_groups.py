import pytest

from featlift.cli.groups import HEADINGS, MAIN_STAGES, SHORT_HELP, find_heading, list_stages
from featlift.cli.option_table import load_option_table
from featlift.cli.verbs import PAPERS


@pytest.mark.parametrize("paper", PAPERS)
def test_every_option_has_a_heading(paper):
    for option in load_option_table(f"train {paper}").options:
        assert find_heading(paper, option.name) in HEADINGS


@pytest.mark.parametrize(
    ("paper", "name", "heading"),
    [
        ("afi-gan", "data.min_size", "data"),
        ("afi-gan", "model.detector_options", "model"),
        ("afi-gan", "adversarial.weight", "losses"),
        ("afi-gan", "target.optimizer.lr", "optimizer and schedule"),
        ("afi-gan", "teacher.optimizer.lr", "stages"),
        ("afi-gan", "target.steps", "stages"),
        ("baseline", "train.steps", "optimizer and schedule"),
        ("efpn", "detector.optimizer.lr", "optimizer and schedule"),
        ("fsr-gan", "steps", "optimizer and schedule"),
        ("fdsr", "detector_optimizer.lr", "optimizer and schedule"),
        ("afi-gan", "device", "run"),
    ],
)
def test_headings(paper, name, heading):
    assert find_heading(paper, name) == heading


@pytest.mark.parametrize("paper", PAPERS)
def test_about_twenty_settings_are_in_the_short_help(paper):
    assert 15 <= len(SHORT_HELP[paper]) <= 24
    assert len(set(SHORT_HELP[paper])) == len(SHORT_HELP[paper])


def test_the_main_stage_is_a_stage():
    for paper, stage in MAIN_STAGES.items():
        assert stage in [*list_stages(paper), ""]
