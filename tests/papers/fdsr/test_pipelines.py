"""Pipelines: their images, metrics and curves."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from featlift.data.synthetic.scenes import SyntheticScenes
from featlift.detectors.checkpoint import load_detector, save_detector
from featlift.detectors.config import build_detector, quick_detector_config
from featlift.detectors.super_resolved import DegradeAndUpscale, SRDetector
from featlift.image_sr import BicubicSR
from featlift.papers.fdsr.pipelines import (
    SRPipeline,
    build_joint_pipelines,
    build_pipelines,
    compute_robustness,
    evaluate_pipelines,
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


def test_rows_of_the_table():
    detector, tuned, network = nn.Identity(), nn.Identity(), BicubicSR(2)
    pipelines = build_pipelines(detector, {"fdsr": network}, tuned)
    assert list(pipelines) == ["bicubic", "fdsr", "fine-tuned", "original"]
    assert pipelines["fine-tuned"].detector is tuned
    assert pipelines["bicubic"].super_resolver.scale == pipelines["fine-tuned"].super_resolver.scale == 2
    assert pipelines["original"].build_detector(4) is detector
    detector_with_sr = pipelines["fdsr"].build_detector(4)
    assert isinstance(detector_with_sr, SRDetector)
    assert isinstance(detector_with_sr.preprocess, DegradeAndUpscale)
    assert detector_with_sr.preprocess.factor == 4


def test_each_pipeline_gets_its_images(scenes):
    result = evaluate_pipelines(build_pipelines(OriginalsOnly(scenes), {}), scenes, downscale=4, num_quality_images=1)
    assert result["original"]["metrics"]["ap"] == pytest.approx(1)
    assert result["bicubic"]["metrics"]["ap"] == 0
    assert "quality" not in result["original"]
    assert 5 < result["bicubic"]["quality"]["psnr_y"] < 60
    assert result["bicubic"]["seconds"] > 0


def test_images_are_resized_before_they_are_downscaled(scenes):
    """FDSR, Table 3: images are squashed to one size; boxes stay those of the images."""

    class Everything(nn.Module):
        """A detector that finds the whole image, and notes its size."""

        def forward(self, images, targets=None):
            sizes.update(tuple(image.shape[1:]) for image in images)
            return [
                {
                    "boxes": torch.tensor([[0.0, 0.0, image.shape[2], image.shape[1]]]),
                    "labels": torch.tensor([1]),
                    "scores": torch.ones(1),
                }
                for image in images
            ]

    sizes: set[tuple[int, int]] = set()
    pipelines = {
        name: SRPipeline(Everything(), network, None, (30, 40))
        for name, network in (("bicubic", BicubicSR(2)), ("original", None))
    }
    for pipeline in pipelines.values():
        found = pipeline.build_detector(2)([scenes[0][0]])[0]
        torch.testing.assert_close(found["boxes"], torch.tensor([[0.0, 0.0, 52.0, 48.0]]))
    result = evaluate_pipelines(pipelines, scenes, 2, num_quality_images=1)
    assert sizes == {(30, 40)}
    small = nn.functional.interpolate(scenes[0][0][None], (30, 40), mode="bilinear", antialias=True)
    upscaled = pipelines["bicubic"].build_transform(2)(small)
    assert result["bicubic"]["quality"]["psnr_rgb"] == pytest.approx(
        float(-10 * (small - upscaled)[..., 2:-2, 2:-2].square().mean().log10()), abs=0.2
    )


def test_a_factor_of_one_keeps_the_originals(scenes):
    """With factor 1 and an identity network the detector gets the originals: AP 1; other factors give 0."""

    class Identity(nn.Module):
        scale = 1

        def forward(self, x):
            return x

    curves = compute_robustness(
        {"same": SRPipeline(OriginalsOnly(scenes), Identity()), "original": SRPipeline(OriginalsOnly(scenes), None)},
        scenes,
        (1, 2),
    )
    assert curves["same"] == pytest.approx({1: 1.0, 2: 0.0})
    assert curves["original"] == pytest.approx({1: 1.0, 2: 1.0})


def small_detector(folder):
    model = replace(quick_detector_config(), pyramid_channels=16, detector_options={"fc_dim": 32, "num_proposals": 20})
    return save_detector(build_detector(model, 6), model, SyntheticScenes(2).classes, folder)


def test_a_joint_run_is_evaluated_with_its_own_detector(tmp_path):
    small_detector(tmp_path / "sr4ir")
    networks = {"fdsr": BicubicSR(2), "sr4ir": BicubicSR(2)}
    pipelines = build_joint_pipelines({"fdsr": str(tmp_path / "fdsr"), "sr4ir": str(tmp_path / "sr4ir")}, networks)
    assert list(pipelines) == ["sr4ir"]
    assert pipelines["sr4ir"].super_resolver is networks["sr4ir"]
    assert torch.equal(
        next(pipelines["sr4ir"].detector.parameters()), next(load_detector(tmp_path / "sr4ir")[0].parameters())
    )
