"""Configurations of detectors."""

import json
from dataclasses import asdict, replace

import pytest
import torch

from featlift.detectors.config import DetectorConfig, build_detector


def test_parameters_of_mask_rcnn_with_80_classes():
    """Spec §9.1: 44,343,216 with nearest interpolation and 52,177,840 with AFI, in Detectron2's layout.

    torchvision's heads have one more class row in the boxes' predictor (4 · 1025) and in the masks' (257); its frozen
    batch norms keep their affine as buffers in both.
    """
    counts = [
        sum(
            p.numel()
            for p in build_detector(
                replace(DetectorConfig(backbone_weights="random"), interpolator=name), 80
            ).parameters()
        )
        for name in ("nearest", "afi")
    ]
    assert counts[1] - counts[0] == 52_177_840 - 44_343_216 == 7_834_624
    assert counts[0] == 44_343_216 + 4 * 1025 + 257


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"interpolator": "afl"}, "Unknown interpolator 'afl'. Did you mean 'afi'"),
        ({"interpolator_options": {"growht": 3}}, "'nearest' has no option growht"),
        ({"detector": "faster"}, "Unknown detector 'faster'. Did you mean 'faster-rcnn'"),
        ({"execution": "fast"}, "Unknown execution 'fast'; choose one of eager, checkpointed, compiled"),
        ({"pyramid_channels": 0}, "Cannot build an interpolator for 0 channels"),
    ],
)
def test_a_detector_that_cannot_be_built_is_refused_by_its_config(changes, message):
    with pytest.raises(ValueError, match=message):
        DetectorConfig(**changes)


def test_a_model_survives_json(model):
    config = replace(model("afi", growth_rate=4), mean_std=(0.5, 0.25))
    again = DetectorConfig(**json.loads(json.dumps(asdict(config))))
    T = build_detector(again, 2)
    assert torch.equal(T.backbone.mean.flatten(), torch.tensor([0.5] * 3))
