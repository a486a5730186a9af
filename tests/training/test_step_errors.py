import pytest
import torch
from torch import nn

from featlift.training.step_errors import explain_step_errors


@pytest.mark.parametrize(("layer", "shape"), [(nn.BatchNorm2d(4), (1, 4, 1, 1)), (nn.BatchNorm1d(4), (1, 4))])
def test_one_value_per_channel_is_explained(layer, shape):
    """ResNeSt#46: one image of 32 px has a coarsest map of 1x1."""
    sentence = r"\[1, 4.*--data.batch-size.*--model.norm frozen or group"
    with pytest.raises(ValueError, match=sentence), explain_step_errors():
        layer.train()(torch.rand(shape))


def test_other_errors_are_unchanged():
    with pytest.raises(ValueError, match="something else"), explain_step_errors():
        raise ValueError("something else")
