"""Every detector takes ``max_detections``, and detects that many objects."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from featlift.detectors import DETECTORS
from featlift.detectors.config import build_detector
from featlift.detectors.detection_limit import limit_detections
from featlift.evaluation.detection import detection_limit


@pytest.mark.parametrize("name", list(DETECTORS))
@pytest.mark.parametrize("limit", [3, 300])
def test_every_detector_takes_the_limit(model, name, limit):
    config = replace(model("nearest", name), pyramid_channels=32, detector_options={"max_detections": limit})
    detector = build_detector(config, 2).eval()
    assert detection_limit(detector) == limit
    for module in detector.modules():  # an untrained detector is sure of nothing
        if hasattr(module, "score_thresh"):
            module.score_thresh = 0.0
    with torch.inference_mode():
        count = len(detector([torch.rand(3, 96, 96)])[0]["boxes"])
    assert count == 3 if limit == 3 else 100 < count <= 300


def test_an_invalid_limit_is_refused(model):
    with pytest.raises(ValueError, match="max_detections is 0"):
        build_detector(replace(model("nearest"), detector_options={"max_detections": 0}), 2)
    with pytest.raises(TypeError, match="Linear has no detections_per_img"):
        limit_detections(nn.Linear(1, 1), 5)
