import torch
import torch.nn.functional as nnf

from featlift.image_sr.edsr import EDSR


def literal_edsr(s, low, blocks, res_scale):
    """The network of the paper, written explicitly, on 0…255."""
    mean = torch.tensor([0.4488, 0.4371, 0.4040]).view(1, 3, 1, 1) * 255

    def conv(name, x):
        return nnf.conv2d(x, s[f"{name}.weight"], s[f"{name}.bias"], padding=1)

    head = x = conv("head.0", low * 255 - mean)
    for k in range(blocks):
        x = x + res_scale * conv(f"body.{k}.body.2", conv(f"body.{k}.body.0", x).relu())
    x = head + conv(f"body.{blocks}", x)
    for k in (0, 2):
        x = nnf.pixel_shuffle(conv(f"tail.0.{k}", x), 2)
    return (conv("tail.1", x) + mean) / 255


def test_is_the_papers_network():
    network, low = EDSR(4, blocks=3, width=8, res_scale=0.1), torch.rand(2, 3, 5, 6)
    torch.testing.assert_close(network(low), literal_edsr(network.state_dict(), low, 3, 0.1), rtol=1e-4, atol=1e-5)
