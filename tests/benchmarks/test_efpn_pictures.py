"""What is made of the runs that the comparison left: pictures, and a longer extension."""

from dataclasses import replace

import pytest
from efpn import shortened
from efpn_length import longer
from efpn_pictures import TRANSFERS, detections, maps
from PIL import Image
from rivals import START, plainly, scenes

from featlift.papers import baseline


@pytest.fixture(scope="module")
def left(tmp_path_factory):
    """A case of one step a stage, the folder with its start, the start and EFPN after two steps of the extension."""
    case = shortened(scenes(), 0.001, 2)
    data = replace(case.settings.data, num_scenes=4, num_val_scenes=3, batch_size=1)
    case = replace(case, settings=replace(case.settings, data=data))
    folder = tmp_path_factory.mktemp("efpn")
    start = plainly(case.settings, case.settings.detector, folder / "start", 0)
    return case, folder, start, longer(case, folder, 2, 8)


def test_only_the_extension_learns_for_longer(left):
    case, folder, _, ours = left
    assert ours.steps == 2 + case.settings.head.steps == 3
    assert longer(case, folder, 2, 8).steps == 3, "a finished run is only loaded"


def test_pictures_of_what_was_left(left, tmp_path):
    case, _, start, ours = left
    shown = baseline.build_dataset(case.settings.data, "val")
    path = maps({f"EFPN, {name}": ours for name in TRANSFERS}, shown[0][0], tmp_path / "maps.png")
    assert Image.open(path).width > Image.open(path).height
    seen = {START: start.detector, "EFPN": ours.detector}
    path = detections(seen, shown, case, 2, tmp_path / "detections.png")
    assert Image.open(path).size[0] > 500
