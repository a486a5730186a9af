import pytest
import torch
import torch.nn.functional as nnf

from featlift.image_sr.dbpn import DDBPN


def literal_dbpn(s, low, stages, scale):
    """D-DBPN with the keys of the published files, unit by unit; concatenation newest first."""

    def act(name, x):
        return nnf.prelu(x, s[f"{name}.act.weight"])

    def conv(name, x, stride=1, padding=0):
        return act(name, nnf.conv2d(x, s[f"{name}.conv.weight"], s[f"{name}.conv.bias"], stride, padding))

    def deconv(name, x):
        return act(name, nnf.conv_transpose2d(x, s[f"{name}.deconv.weight"], s[f"{name}.deconv.bias"], scale, 2))

    def up(k, x):
        if k > 2:
            x = conv(f"up{k}.conv", x)
        h0 = deconv(f"up{k}.up_conv1", x)
        return h0 + deconv(f"up{k}.up_conv3", conv(f"up{k}.up_conv2", h0, scale, 2) - x)

    def down(k, x):
        if k > 1:
            x = conv(f"down{k}.conv", x)
        l0 = conv(f"down{k}.down_conv1", x, scale, 2)
        return l0 + conv(f"down{k}.down_conv3", deconv(f"down{k}.down_conv2", l0) - x, scale, 2)

    x = conv("feat1", conv("feat0", low, 1, 1))
    highs, lows = [up(1, x)], []
    for k in range(1, stages):
        lows.insert(0, down(k, torch.cat(highs, 1)))
        highs.insert(0, up(k + 1, torch.cat(lows, 1)))
    return nnf.conv2d(torch.cat(highs, 1), s["output_conv.conv.weight"], s["output_conv.conv.bias"], padding=1)


def published_state(stages, scale, width=4, initial_channels=8):
    """Random weights with the published keys."""
    kernel, generator = scale + 4, torch.Generator().manual_seed(1)

    def layer(name, kind, shape):
        weights = torch.randn(shape, generator=generator) * (2 / (shape[1] * shape[2] ** 2)) ** 0.5
        size = shape[1] if kind == "deconv" else shape[0]
        slope = torch.rand(1, generator=generator)
        return {
            f"{name}.{kind}.weight": weights,
            f"{name}.{kind}.bias": torch.randn(size, generator=generator) * 0.1,
            f"{name}.act.weight": slope,
        }

    s = layer("feat0", "conv", (initial_channels, 3, 3, 3)) | layer("feat1", "conv", (width, initial_channels, 1, 1))
    square = (width, width, kernel, kernel)
    for side, kinds, last, squeezed_from in (
        ("up", ("deconv", "conv", "deconv"), stages, 3),
        ("down", ("conv", "deconv", "conv"), stages - 1, 2),
    ):
        for k in range(1, last + 1):
            for number, kind in enumerate(kinds, 1):
                s |= layer(f"{side}{k}.{side}_conv{number}", kind, square)
            if k >= squeezed_from:
                maps = k - 1 if side == "up" else k
                s |= layer(f"{side}{k}.conv", "conv", (width, maps * width, 1, 1))
    s |= layer("output_conv", "conv", (3, stages * width, 3, 3))
    del s["output_conv.act.weight"]
    return s


@pytest.mark.parametrize(("stages", "scale"), [(7, 4), (10, 2), (3, 8)])
def test_is_the_published_network(stages, scale):
    from featlift.image_sr.official_weights import convert_published_keys

    state = published_state(stages, scale)
    network = DDBPN(scale, stages, initial_channels=8, width=4)
    network.load_state_dict(convert_published_keys(state))
    low = torch.rand(1, 3, 4, 5)
    torch.testing.assert_close(network(low), literal_dbpn(state, low, stages, scale), rtol=1e-4, atol=1e-4)


def test_scale_of_one_is_rejected():
    with pytest.raises(ValueError, match="2 or more"):
        DDBPN(1)
