"""Figures of the runs of the comparison, and a longer training of the extension."""

from dataclasses import replace

import pytest
from efpn import scale_case
from efpn_baselines import BASE, scenes, train_detector
from efpn_figures import TRANSFERS, plot_detections, plot_maps
from efpn_length import train_extension
from PIL import Image

from featlift.data.config import build_dataset


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A case with one step per stage, its folder, the base detector, and EFPN after two steps of the extension."""
    case = scale_case(scenes(), 0.001, 2)
    data = replace(case.settings.data, num_scenes=4, num_val_scenes=3, batch_size=1)
    case = replace(case, settings=replace(case.settings, data=data))
    folder = tmp_path_factory.mktemp("efpn")
    base = train_detector(case.settings, case.settings.detector, folder / "start", 0)
    return case, folder, base, train_extension(case, folder, 2, 8)


def test_only_the_extension_is_trained_longer(trained):
    case, folder, _, candidate = trained
    assert candidate.steps == 2 + case.settings.head.steps == 3
    assert train_extension(case, folder, 2, 8).steps == 3, "a finished run is only loaded"


def test_figures_of_the_runs(trained, tmp_path):
    case, _, base, candidate = trained
    dataset = build_dataset(case.settings.data, "val")
    path = plot_maps({f"EFPN, {name}": candidate for name in TRANSFERS}, dataset[0][0], tmp_path / "maps.png")
    assert Image.open(path).width > Image.open(path).height
    detectors = {BASE: base.detector, "EFPN": candidate.detector}
    path = plot_detections(detectors, dataset, case, 2, tmp_path / "detections.png")
    assert Image.open(path).size[0] > 500
