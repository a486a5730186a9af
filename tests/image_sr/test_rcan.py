import pytest
import torch

from featlift.image_sr.rcan import RCAN, ChannelAttention


def published_means():
    """The constants that the published files hold in addition to the weights."""
    mean, eye = 255 * torch.tensor([0.4488, 0.4371, 0.4040]), torch.eye(3)[:, :, None, None]
    return {"sub_mean.weight": eye, "sub_mean.bias": -mean, "add_mean.weight": eye, "add_mean.bias": mean}


@pytest.mark.parametrize("scale", [2, 4])
def test_equals_spandrel(scale):
    """spandrel builds the published network from FeatLift's state dict."""
    spandrel = pytest.importorskip("spandrel")
    network = RCAN(scale, groups=2, blocks=3, width=32, reduction=16).eval()
    expected = spandrel.ModelLoader().load_from_state_dict(dict(network.state_dict()) | published_means())
    low = torch.rand(1, 3, 8, 9)
    assert expected.scale == scale
    with torch.no_grad():
        torch.testing.assert_close(network(low), expected.model(low), rtol=1e-3, atol=1e-4)


def test_attention_weights_are_in_0_1():
    attention, x = ChannelAttention(8, 4), torch.rand(2, 8, 3, 5) + 0.1
    weight = attention(x) / x
    assert (weight > 0).all()
    assert (weight < 1).all()
    torch.testing.assert_close(weight, weight[:, :, :1, :1].expand_as(weight))
