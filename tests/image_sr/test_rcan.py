import pytest
import torch

from featlift.image_sr.rcan import RCAN, ChannelAttention


def published_means():
    """The constants that the published files hold beside the weights."""
    mean, eye = 255 * torch.tensor([0.4488, 0.4371, 0.4040]), torch.eye(3)[:, :, None, None]
    return {"sub_mean.weight": eye, "sub_mean.bias": -mean, "add_mean.weight": eye, "add_mean.bias": mean}


@pytest.mark.parametrize("scale", [2, 4])
def test_is_spandrels(scale):
    """spandrel rebuilds the published network from our state dict."""
    spandrel = pytest.importorskip("spandrel")
    network = RCAN(scale, groups=2, blocks=3, width=32, reduction=16).eval()
    theirs = spandrel.ModelLoader().load_from_state_dict(dict(network.state_dict()) | published_means())
    low = torch.rand(1, 3, 8, 9)
    assert theirs.scale == scale
    with torch.no_grad():
        torch.testing.assert_close(network(low), theirs.model(low), rtol=1e-3, atol=1e-4)


def test_attention_is_between_nothing_and_all():
    attention, x = ChannelAttention(8, 4), torch.rand(2, 8, 3, 5) + 0.1
    share = attention(x) / x
    assert (share > 0).all()
    assert (share < 1).all()
    torch.testing.assert_close(share, share[:, :, :1, :1].expand_as(share))
