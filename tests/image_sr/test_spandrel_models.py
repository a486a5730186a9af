import pytest
import torch

from featlift.image_sr import EDSR, RCAN
from featlift.image_sr.spandrel_models import SpandrelNetwork, load_spandrel

pytest.importorskip("spandrel")


def test_infers_architecture_and_scale_from_the_weights(tmp_path):
    expected = RCAN(2, groups=1, blocks=2, width=32, reduction=16)
    mean, eye = 255 * expected.mean.flatten(), torch.eye(3)[:, :, None, None]
    means = {"sub_mean.weight": eye, "sub_mean.bias": -mean, "add_mean.weight": eye, "add_mean.bias": mean}
    torch.save(expected.state_dict() | means, tmp_path / "rcan.pth")
    loaded, low = load_spandrel(tmp_path / "rcan.pth"), torch.rand(1, 3, 6, 7)
    assert loaded.scale == 2
    torch.testing.assert_close(loaded(low), expected(low), rtol=1e-3, atol=1e-4)


def test_transformer_takes_any_size(tmp_path):
    from spandrel.architectures.SwinIR import SwinIR

    network = SwinIR(
        img_size=8,
        depths=[1],
        num_heads=[1],
        embed_dim=6,
        window_size=4,
        upscale=2,
        upsampler="pixelshuffledirect",
        mlp_ratio=2,
    )
    torch.save(network.state_dict(), tmp_path / "swinir.pth")
    loaded = load_spandrel(tmp_path / "swinir.pth")
    assert loaded(torch.rand(2, 3, 5, 9)).shape == (2, 3, 10, 18)


def test_pads_to_the_size_requirements():
    sizes = []

    def network(x):
        sizes.append(tuple(x.shape[-2:]))
        return x.repeat_interleave(2, -1).repeat_interleave(2, -2)

    low = torch.rand(1, 3, 5, 9)
    high = SpandrelNetwork(network, 2, size_divisor=4, min_size=16)(low)  # type: ignore[arg-type]
    assert sizes == [(16, 16)]
    torch.testing.assert_close(high, low.repeat_interleave(2, -1).repeat_interleave(2, -2))


def test_unknown_networks_are_named(tmp_path):
    torch.save(EDSR(2, 1, 4).state_dict(), tmp_path / "edsr.pth")
    with pytest.raises(ValueError, match=r"holds no network of featlift\.image_sr and none that spandrel recognizes"):
        load_spandrel(tmp_path / "edsr.pth")


@pytest.mark.parametrize("name", ["noise.pth", "empty.pth", "short.safetensors", "text.txt"])
def test_a_broken_file_is_named(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"" if name == "empty.pth" else b"abc")
    with pytest.raises(ValueError, match=rf"{name} is not a readable file of weights .* give a .pth or .safetensors"):
        load_spandrel(path)
