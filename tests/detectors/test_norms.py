import pytest
import torch
from torch import nn

from featlift.detectors.config import DetectorConfig
from featlift.detectors.norms import NORM_LAYERS, norm_layer


@pytest.mark.parametrize("name", [name for name in NORM_LAYERS if name != "none"])
def test_every_norm_has_zero_mean_and_unit_variance_per_channel_group(name):
    x = 3 + 2 * torch.randn(8, 12, 6, 6)
    y = norm_layer(name)(12)(x)
    torch.testing.assert_close(y.mean(), torch.tensor(0.0), atol=1e-5, rtol=0)
    torch.testing.assert_close(y.var(unbiased=False), torch.tensor(1.0), atol=1e-3, rtol=0)


def test_unknown_names_are_refused_before_anything_is_built():
    assert norm_layer("none") is None
    assert norm_layer("sync") is nn.SyncBatchNorm
    with pytest.raises(ValueError, match="sync"):
        DetectorConfig(pyramid_norm="synk")
