import numpy as np
import pytest
import torch
from PIL import Image

from featlift.data.image_io import ImageReadError, read_image, read_image_sizes

GRAY = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20


def test_colors_keep_their_order_and_range(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert image.dtype == torch.float32
    np.testing.assert_allclose(image.numpy(), pixels.transpose(2, 0, 1) / 255, atol=1e-6)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "I;16", "1", "CMYK"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    black_white = np.array([[0, 255, 0, 255]] * 3, dtype=np.uint8)
    if mode == "I;16":
        image = Image.fromarray(black_white.astype(np.uint16) * 257)
    else:
        image = Image.fromarray(black_white).convert("L" if mode in ("L", "1") else "RGB").convert(mode)
    file = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    image.save(file)
    np.testing.assert_allclose(read_image(file).numpy(), np.stack([black_white] * 3) / 255, atol=1e-6)


def test_sixteen_bits_keep_their_steps(tmp_path):
    deep = np.array([[0, 1, 256, 40_000]], dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / "a.png")
    np.testing.assert_allclose(read_image(tmp_path / "a.png")[0].numpy(), deep / 65535, atol=1e-7)


def test_what_is_transparent_is_white(tmp_path):
    pixels = np.zeros((1, 3, 4), dtype=np.uint8)
    pixels[0, :, 3] = 0, 255, 51
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png")[0, 0].tolist() == pytest.approx([1, 0, 0.8], abs=1e-6)


def upright_camera(path):
    """Stored 4 wide and 3 tall, to be turned by a quarter (orientation 6)."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(GRAY).save(path, exif=exif)


def test_a_rotated_image_is_read_upright(tmp_path):
    upright_camera(tmp_path / "a.png")
    assert read_image_sizes(tmp_path / "a.png") == [(4, 3), (3, 4)]
    turned = np.rot90(GRAY, -1) / 255
    for size in (None, (4, 3)):
        np.testing.assert_allclose(read_image(tmp_path / "a.png", size)[0].numpy(), turned, atol=1e-6)


def test_a_rotated_image_whose_boxes_were_drawn_as_stored_stays(tmp_path):
    upright_camera(tmp_path / "a.png")
    np.testing.assert_allclose(read_image(tmp_path / "a.png", (3, 4))[0].numpy(), GRAY / 255, atol=1e-6)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_truncated_image_is_named(tmp_path, suffix):
    file = tmp_path / f"cut.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(file)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert read_image_sizes(file) == [(64, 64)]
    with pytest.raises(ImageReadError, match=rf"cut\.{suffix} is broken or truncated"):
        read_image(file)


@pytest.mark.parametrize("content", [b"", b"hello"])
def test_what_is_not_an_image_is_named(tmp_path, content):
    (tmp_path / "no.png").write_bytes(content)
    for read in (read_image_sizes, read_image):
        with pytest.raises(ImageReadError, match=r"no\.png"):
            read(tmp_path / "no.png")
