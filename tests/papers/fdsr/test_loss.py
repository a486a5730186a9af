"""Terms of the loss by hand."""

import numpy as np
import pytest
import torch
from torch import nn

from featlift.detectors.feature_extraction import FeatureExtractor
from featlift.papers.fdsr.loss import SuperResolutionLoss
from featlift.papers.fdsr.settings import LossWeights
from featlift.resolution import frozen_copy


def backbone():
    torch.manual_seed(3)
    layers = [nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.Conv2d(8, 8, 3, 2, 1)]
    return nn.Sequential(*layers)


def test_terms_by_hand():
    torch.manual_seed(0)
    extractor = frozen_copy(FeatureExtractor(backbone(), ["3"]))
    criterion = SuperResolutionLoss(LossWeights(pixels=0.5, features=2.0), extractor, None)
    student, teacher = torch.rand(2, 3, 16, 16), torch.rand(2, 3, 16, 16)
    losses = criterion.losses(criterion.extract(student), criterion.extract(teacher), [])
    a, b = extractor(student)["3"], extractor(teacher)["3"]
    assert losses["pixels"].item() == pytest.approx(0.5 * np.abs(student.numpy() - teacher.numpy()).mean(), rel=1e-5)
    assert losses["features"].item() == pytest.approx(2.0 * ((a - b) ** 2).mean().item(), rel=1e-5)
