import pytest
import torch
from torch.nn import functional as nnf

from featlift.app.super_resolution import UpscalingComparison
from featlift.checkpoints import save
from featlift.image_sr import super_resolver


@pytest.fixture
def network_file(tmp_path):
    torch.manual_seed(0)
    return save(super_resolver("srcnn", 2), tmp_path / "network.safetensors")


def test_both_upscalings(network_file):
    image = torch.rand(3, 30, 40)
    found = UpscalingComparison(str(network_file), "cpu", tile_size=0)(image)
    bicubic = nnf.interpolate(image[None], scale_factor=2, mode="bicubic", antialias=True)[0].clamp(0, 1)
    torch.testing.assert_close(found["bicubic"].image, bicubic, atol=1e-4, rtol=0)
    from featlift.checkpoints import load

    with torch.no_grad():
        expected = load(network_file).eval()(image[None])[0].clamp(0, 1)  # type: ignore[operator]
    torch.testing.assert_close(found["network"].image, expected)
    assert min(result.milliseconds for result in found.values()) > 0


def test_tiles_change_nothing(network_file):
    image = torch.rand(3, 60, 50)
    whole = UpscalingComparison(str(network_file), "cpu", tile_size=0)(image)["network"].image
    tiled = UpscalingComparison(str(network_file), "cpu", tile_size=16)(image)["network"].image
    torch.testing.assert_close(tiled, whole, atol=1e-5, rtol=0)


def test_an_architecture_has_no_weights():
    with pytest.raises(ValueError, match="architecture without weights"):
        UpscalingComparison("edsr")
