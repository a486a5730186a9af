import numpy as np
import pytest
import torch
from PIL import Image

from featlift.data.image_folder import UnlabeledImageFolder
from featlift.data.image_io import (
    IMAGE_SUFFIXES,
    WRITTEN_FILE,
    ImageReadError,
    list_images,
    read_image,
    read_image_crop,
    read_image_sizes,
    read_reduced_image,
    to_image_tensor,
)
from featlift.data.retrieval_readers import load_class_folders
from featlift.deployment import image_search
from featlift.deployment.image_sources import find_images
from featlift.deployment.upscaling import UpscaleOptions, upscale_images
from featlift.retrieval.embedders import EmbedderConfig

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


@pytest.fixture
def every_suffix(tmp_path):
    """A folder with one image of each suffix, some in capitals, some in a subfolder, and a text file."""
    folder = tmp_path / "images"
    (folder / "below").mkdir(parents=True)
    for number, suffix in enumerate(IMAGE_SUFFIXES):
        name = f"{number}{suffix.upper() if number % 2 else suffix}"
        image = Image.fromarray(np.full((24, 32), 20 * number, np.uint8))
        (image if suffix == ".pgm" else image.convert("RGB")).save(folder / ("below" if number > 5 else ".") / name)
    (folder / "notes.txt").write_text("not an image")
    return folder


class NamesOnly:
    """A vector store without vectors: importing the database of the real one takes longer than all other tests of this file."""

    def __init__(self, folder, dimension, fingerprint):
        self.names = []

    def contents(self):
        return {}

    def add(self, names, vectors, contents):
        self.names += names

    def remove(self, names):
        assert not names

    def compact(self):
        pass


def test_every_command_sees_the_same_images(every_suffix, tmp_path, monkeypatch):
    monkeypatch.setattr(image_search, "VectorStore", NamesOnly)
    files = list_images(every_suffix)
    assert len(files) == len(IMAGE_SUFFIXES) == 9
    names = [str(file.relative_to(every_suffix)) for file in files]
    dataset = UnlabeledImageFolder(every_suffix)
    assert [dataset.image_name(i) for i in range(len(dataset))] == names
    assert find_images([str(every_suffix)]) == files
    assert load_class_folders(every_suffix, every_suffix).database == files
    update = image_search.update_index(every_suffix, tmp_path / "index", EmbedderConfig("gist", input_size=32))
    assert sorted(update.store.names) == names
    upscaled = upscale_images(every_suffix, tmp_path / "large", UpscaleOptions("bicubic", 2, precision="fp32"))
    assert [str(file.relative_to(tmp_path / "large")) for file in upscaled] == names


@pytest.mark.parametrize("read", [read_image, read_image_crop, read_image_sizes])
def test_a_file_that_is_not_there_is_not_called_broken(tmp_path, read):
    with pytest.raises(ImageReadError, match=r"query\.png does not exist\.$"):
        read(tmp_path / "query.png")


def test_no_folder_and_no_image(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        list_images(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match=r"contains no image \(\.jpg"):
        list_images(tmp_path)


@pytest.mark.parametrize("mode", ["I;16", "RGBA"])
def test_a_crop_has_the_values_of_the_image(tmp_path, mode):
    values = np.random.default_rng(0).integers(0, 65536 if mode == "I;16" else 256, (6, 9, 4))
    pixels = values[..., 0].astype(np.uint16) if mode == "I;16" else values.astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    whole = read_image(tmp_path / "a.png")
    assert torch.equal(read_image_crop(tmp_path / "a.png"), whole)
    assert torch.equal(read_image_crop(tmp_path / "a.png", (1.6, 0.4, 7.2, 5.0)), whole[:, 0:5, 2:7])


def test_a_crop_is_black_outside_of_the_image(tmp_path):
    Image.new("RGB", (4, 3), "white").save(tmp_path / "a.png")
    crop = read_image_crop(tmp_path / "a.png", (-1, 0, 6, 3))
    assert crop.shape == (3, 3, 7)
    assert crop[0].sum(dim=0).tolist() == [0, 3, 3, 3, 3, 0, 0]


def test_hidden_and_drawn_images_are_skipped_with_a_warning(every_suffix):
    files = list_images(every_suffix)
    (every_suffix / "._1.jpg").write_bytes(b"Mac OS X")
    (every_suffix / "folder.jpg").mkdir()
    (every_suffix / "predictions").mkdir()
    (every_suffix / "predictions/drawn.png").write_bytes(files[0].read_bytes())
    (every_suffix / "predictions" / WRITTEN_FILE).write_text("drawn.png\n")
    with pytest.warns(UserWarning, match="1 hidden files are skipped: ._1.jpg") as warned:
        assert list_images(every_suffix) == files
    assert "predictions/drawn.png" in str(warned[1].message)


def test_images_in_memory():
    pixels = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    expected = torch.from_numpy(pixels).permute(2, 0, 1) / 255
    for image in (pixels, Image.fromarray(pixels), torch.from_numpy(pixels).permute(2, 0, 1), expected):
        assert torch.equal(to_image_tensor(image), expected)
    assert to_image_tensor(pixels[..., 0]).shape == (3, 4, 5)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = Image.fromarray(pixels)
    turned.info["exif"] = exif.tobytes()
    assert to_image_tensor(turned).shape == (3, 5, 4)


@pytest.mark.parametrize("image", [torch.full((3, 4, 5), 2.0), torch.zeros(4, 5), np.zeros((4, 5, 3)), "no image"])
def test_what_is_no_image_in_memory(image):
    with pytest.raises(ImageReadError, match=type(image).__name__):
        to_image_tensor(image)


def write_photograph(file, height, width, orientation=1, mode="RGB"):
    """Write smooth colored noise as a JPEG file with an EXIF orientation."""
    noise = np.random.default_rng(0).integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC).convert(mode)
    image.save(file, quality=95, exif=exif)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_reduced_image_is_the_mean_of_blocks_of_the_whole(tmp_path, orientation, mode):
    write_photograph(tmp_path / "a.jpg", 160, 288, orientation, mode)
    whole = read_image(tmp_path / "a.jpg")
    for min_side, factor in ((20, 8), (21, 4), (40, 4), (41, 2), (80, 2), (81, 1), (500, 1)):
        reduced = read_reduced_image(tmp_path / "a.jpg", (min_side, min_side))
        blocks = whole.reshape(3, whole.shape[1] // factor, factor, whole.shape[2] // factor, factor).mean((2, 4))
        assert reduced.shape == blocks.shape
        assert (reduced - blocks).abs().mean() < 0.01
        assert min(reduced.shape[1:]) >= min(min_side, 160)


def test_both_sides_keep_the_size_needed_of_the_upright_image(tmp_path):
    write_photograph(tmp_path / "turned.jpg", 161, 289, orientation=6)
    assert read_reduced_image(tmp_path / "turned.jpg", (70, 30)).shape[1:] == (73, 41)  # 289/4 and 161/4, rounded up
    assert read_reduced_image(tmp_path / "turned.jpg", (30, 70)).shape[1:] == (145, 81)


def test_other_files_are_decoded_in_full(tmp_path):
    Image.fromarray(np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)).save(tmp_path / "deep.png")
    for suffix in ("png", "bmp", "webp", "tif"):
        Image.effect_noise((64, 48), 50).convert("RGB").save(tmp_path / f"a.{suffix}")
    for file in list_images(tmp_path):
        assert torch.equal(read_reduced_image(file, (8, 8)), read_image(file))


def test_a_truncated_photograph_is_refused_at_a_reduced_size(tmp_path):
    write_photograph(tmp_path / "a.jpg", 160, 288)
    content = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(content[: len(content) // 2])
    with pytest.raises(ImageReadError, match=r"cut\.jpg is broken or truncated"):
        read_reduced_image(tmp_path / "cut.jpg", (20, 20))
    with pytest.raises(ImageReadError, match="million pixels"):
        read_reduced_image(tmp_path / "a.jpg", (20, 20), max_pixels=1000)
