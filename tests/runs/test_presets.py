import pytest

from featlift.papers.registry import PAPERS
from featlift.runs.presets import PRESETS, choose_preset


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
