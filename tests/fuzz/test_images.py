"""Damaged image files: read, or refused with the name of the file.

All of them with ``make fuzz`` (``FEATLIFT_FUZZ=1``), every twenty-fifth otherwise.
"""

import io
import os

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from featlift.data.image_io import ImageReadError, read_image, read_image_sizes

SUFFIXES = ("png", "jpg", "tif", "webp", "bmp", "ppm", "gif")
MUTATIONS_PER_SUFFIX = 150
STEP = 1 if os.environ.get("FEATLIFT_FUZZ") else 25


def encode(suffix):
    pixels = np.random.default_rng(1).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    options = {"exif": exif} if suffix in ("png", "jpg", "tif", "webp") else {}
    Image.fromarray(pixels).save(stream, {"jpg": "JPEG", "tif": "TIFF"}.get(suffix, suffix.upper()), **options)
    return stream.getvalue()


def damage(content, number):
    """Cut, overwrite, zero, or repeat a part of ``content``; half of them within the header."""
    rng = np.random.default_rng(number)
    data = bytearray(content)
    size = len(data) if number % 2 else min(len(data), 120)
    start = int(rng.integers(0, size))
    length = int(rng.integers(1, 9))
    kind = number % 5
    if kind == 0:
        return bytes(data[:start])
    if kind == 1:
        return bytes(data[:start] + data[start + length :])
    if kind == 2:
        return bytes(data[:start] + data[start : start + 40] + data[start:])
    replacement = bytes(length) if kind == 3 else rng.integers(0, 256, length, dtype=np.uint8).tobytes()
    data[start : start + length] = replacement
    return bytes(data)


def test_there_are_enough_damages():
    assert len(SUFFIXES) * MUTATIONS_PER_SUFFIX >= 1000


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_damaged_files_are_read_or_named(tmp_path, suffix, count):
    content = encode(suffix)
    for number in range(0, MUTATIONS_PER_SUFFIX, STEP):
        file = tmp_path / f"{number}.{suffix}"
        file.write_bytes(damage(content, number))
        for read in (read_image_sizes, read_image):
            result, refusal = read_or_refuse(read, file)
            assert refusal is None or file.name in str(refusal)
            if read is read_image:
                count("damaged images", "refused" if result is None else "read")
            if read is read_image and result is not None:
                assert result.shape[0] == 3
                assert 0 <= result.min() <= result.max() <= 1


def read_or_refuse(read, file):
    try:
        return read(file), None
    except ImageReadError as error:
        return None, error
    except Exception as error:
        raise AssertionError(f"{file.name}: {type(error).__name__}: {error}") from error


def test_a_text_bomb_is_named(tmp_path):
    text = PngImagePlugin.PngInfo()
    text.add_text("comment", "a" * (PngImagePlugin.MAX_TEXT_CHUNK + 1), zip=True)
    Image.new("L", (4, 4)).save(tmp_path / "bomb.png", pnginfo=text)
    with pytest.raises(ImageReadError, match=r"bomb\.png"):
        read_image(tmp_path / "bomb.png")
