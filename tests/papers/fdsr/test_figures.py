"""Plot and image grid."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from featlift.data.synthetic.scenes import SyntheticScenes
from featlift.image_sr import BicubicSR
from featlift.papers.fdsr.figures import make_detection_grid, plot_robustness
from featlift.papers.fdsr.pipelines import (
    build_pipelines,
)


class OriginalsOnly(nn.Module):
    """A detector that returns the ground truth of original images, and no detections on any other image."""

    def __init__(self, scenes):
        super().__init__()
        self.targets = {image.numpy().tobytes(): target for image, target in (scenes[i] for i in range(len(scenes)))}

    def forward(self, images, targets=None):
        return [self._detect(image) for image in images]

    def _detect(self, image):
        target = self.targets.get(image.numpy().tobytes())
        count = 0 if target is None else len(target["boxes"])
        detections = (
            {name: target[name] for name in ("boxes", "labels")}
            if count
            else {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0).long()}
        )
        return detections | {"scores": torch.full((count,), 0.9)}


@pytest.fixture(scope="module")
def scenes():
    return SyntheticScenes(3, (48, 52), num_objects=(2, 3), object_sizes=(8, 16))


def test_plot_is_a_png(tmp_path):
    plot_robustness({"bicubic": {1: 0.4, 2: 0.3}, "original": {1: 0.4, 2: 0.4}}, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_the_grid_shows_images_in_the_size_of_the_pipelines(scenes):
    pipelines = build_pipelines(OriginalsOnly(scenes), {})
    resized = {name: replace(pipeline, image_size=(40, 40)) for name, pipeline in pipelines.items()}
    assert (
        make_detection_grid(resized, scenes[0], 2, crop_size=400).height
        < make_detection_grid(pipelines, scenes[0], 2, crop_size=400).height
    )


def test_the_grid_has_a_panel_for_each_pipeline_and_the_low_resolution_image(scenes):
    grid = make_detection_grid(build_pipelines(OriginalsOnly(scenes), {"fdsr": BicubicSR(4)}), scenes[0], crop_size=32)
    assert grid.width == 4 * (4 * 32 + 4) - 4
