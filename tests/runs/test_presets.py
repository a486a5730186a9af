import pytest

from featlift.papers.registry import PAPERS
from featlift.runs.presets import OWN_DATA_ADVICE, PRESETS, choose_preset, describe_preset


@pytest.mark.parametrize(
    ("data", "available", "preset"),
    [
        ("", ("quick", "finetune"), "quick"),
        ("scenes", ("quick", "finetune"), "quick"),
        ("synthetic", ("quick", "finetune"), "quick"),
        ("FOLDER", ("quick", "finetune"), "finetune"),
        ("FOLDER", ("quick",), "quick"),
    ],
)
def test_data_choose_the_preset(data, available, preset):
    assert choose_preset(data, available) == preset


def test_every_preset_is_described():
    assert {preset for paper in PAPERS.values() for preset in paper.presets} == set(PRESETS)


def test_the_papers_without_finetune_have_advice_for_ones_own_images():
    assert set(OWN_DATA_ADVICE) == {name for name, paper in PAPERS.items() if "finetune" not in paper.presets}
    assert describe_preset("quick", "fdsr", "FOLDER").endswith(OWN_DATA_ADVICE["fdsr"])
    assert "On your own images" not in describe_preset("quick", "fdsr", "") + describe_preset("paper", "fdsr", "FOLDER")
