import torch

from featlift.image_sr.bicubic import upsample_bicubic
from featlift.image_sr.vdsr import VDSR


def test_one_network_serves_several_scales():
    network, low = VDSR(2, depth=3, width=4), torch.rand(1, 3, 5, 6)
    assert network(low).shape[-2:] == (10, 12)
    network.scale = 3
    assert network(low).shape[-2:] == (15, 18)


def test_adds_to_the_upsampled_image():
    network, low = VDSR(2, depth=3, width=4), torch.rand(1, 3, 5, 6)
    for parameter in network.features[-1].parameters():
        torch.nn.init.zeros_(parameter)
    torch.testing.assert_close(network(low), upsample_bicubic(low, 2))


def test_the_public_port_has_no_biases():
    assert sum(p.numel() for p in VDSR(4, bias=False).parameters()) == 664_704
