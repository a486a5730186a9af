import numpy as np
import pytest
import torch
from PIL import Image

from featlift.checkpoints import save
from featlift.deployment.upscaling import UpscaleOptions, load_super_resolver_by_name, upscale_images
from featlift.image_sr import BicubicSR, super_resolver
from featlift.image_sr.checkpoint import SUPER_RESOLVER_FILE

PLAIN = UpscaleOptions(scale=2, precision="fp32", tile_size=0)


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    folder = tmp_path / "images"
    (folder / "more").mkdir(parents=True)
    rgb, gray = rng.integers(90, 160, (9, 14, 3), np.uint8), rng.integers(0, 255, (12, 8), np.uint8)
    Image.fromarray(rgb).save(folder / "a.png")
    Image.fromarray(gray).save(folder / "more" / "b.jpg", quality=100)
    (folder / "read me.txt").write_text("not an image")
    return folder


def test_names_folders_and_formats_are_kept(folder, tmp_path):
    written = upscale_images(folder, tmp_path / "out", PLAIN)
    assert [str(path.relative_to(tmp_path / "out")) for path in written] == ["a.png", "more/b.jpg"]
    with Image.open(written[0]) as png, Image.open(written[1]) as jpeg:
        assert (png.format, png.size) == ("PNG", (28, 18))
        assert (jpeg.format, jpeg.size, jpeg.mode) == ("JPEG", (16, 24), "RGB")
    assert len([path for path in (tmp_path / "out").rglob("*") if path.is_file()]) == 2


def test_pixels_are_pillows(folder, tmp_path):
    (written,) = upscale_images(folder / "a.png", tmp_path / "out", PLAIN)
    with Image.open(folder / "a.png") as image, Image.open(written) as upscaled:
        pillow = np.asarray(image.resize((28, 18), Image.Resampling.BICUBIC)).astype(int)
        assert abs(pillow - np.asarray(upscaled).astype(int)).max() <= 1


def test_existing_files_are_skipped(folder, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.png").write_text("mine")
    upscale_images(folder, tmp_path / "out", PLAIN)
    assert (tmp_path / "out" / "a.png").read_text() == "mine"
    assert (tmp_path / "out" / "more" / "b.jpg").exists()


def test_published_weights_of_dbpn_upscale(folder, tmp_path):
    network = super_resolver("d-dbpn", 2, stages=2, initial_channels=8, width=4)
    torch.save(network.state_dict(), tmp_path / "DBPN_x2.pth")
    options = UpscaleOptions(str(tmp_path / "DBPN_x2.pth"), precision="fp32", tile_size=0)
    (written,) = upscale_images(folder / "a.png", tmp_path / "out", options)
    low = torch.from_numpy(np.asarray(Image.open(folder / "a.png"))).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        expected = (network(low)[0].clamp(0, 1) * 255).round().permute(1, 2, 0)
    assert (np.asarray(Image.open(written)) - expected.numpy()).max() <= 1


def test_tiles_and_the_fastest_precision_change_little(folder, tmp_path):
    network = super_resolver("edsr-baseline", 2, blocks=1, width=8)
    torch.nn.init.zeros_(network.tail[1].weight)
    save(network, tmp_path / "run" / SUPER_RESOLVER_FILE)
    whole = upscale_images(
        folder / "a.png", tmp_path / "whole", UpscaleOptions(str(tmp_path / "run"), tile_size=0, precision="fp32")
    )
    tiled = upscale_images(
        folder / "a.png", tmp_path / "tiled", UpscaleOptions(str(tmp_path / "run"), tile_size=4, margin=4)
    )
    pixels = [np.asarray(Image.open(path)).astype(int) for (path,) in (whole, tiled)]
    assert abs(pixels[0] - pixels[1]).max() <= 2


def test_networks_by_name(tmp_path):
    assert isinstance(load_super_resolver_by_name("bicubic", 3), BicubicSR)
    save(super_resolver("srcnn", 3), tmp_path / SUPER_RESOLVER_FILE)
    assert (
        load_super_resolver_by_name(str(tmp_path)).scale
        == load_super_resolver_by_name(str(tmp_path / SUPER_RESOLVER_FILE)).scale
        == 3
    )
    with pytest.raises(ValueError, match="architecture without weights"):
        load_super_resolver_by_name("edsr")
    with pytest.raises(ValueError, match="no file"):
        load_super_resolver_by_name("nothing.pth")


def test_misuse(folder, tmp_path):
    with pytest.raises(ValueError, match="overwritten"):
        upscale_images(folder, folder, PLAIN)
    with pytest.raises(ValueError, match="precision"):
        UpscaleOptions(precision="int8")
    with pytest.raises(FileNotFoundError):
        upscale_images(tmp_path / "nowhere", tmp_path / "out", PLAIN)
