"""Folders with broken files: named, or skipped with a warning that names them, by every command."""

import warnings

import numpy as np
import pytest
from PIL import Image

from featlift.cli import main
from featlift.data.image_files import read_image_files
from featlift.data.image_io import ImageReadError, list_images


@pytest.fixture
def folder(tmp_path):
    """Two images, of which the second is cut short, macOS's hidden file, and a folder that is named like an image."""
    (tmp_path / "in" / "folder.jpg").mkdir(parents=True)
    for name in ("1.jpg", "2.jpg"):
        pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "in" / name)
    (tmp_path / "in" / "2.jpg").write_bytes((tmp_path / "in" / "1.jpg").read_bytes()[:1500])
    (tmp_path / "in" / "._1.jpg").write_bytes(b"\x00\x05\x16\x07Mac OS X")
    return tmp_path / "in"


def test_a_broken_file_stops_or_is_skipped_by_name(folder):
    files = list_images(folder)
    assert [file.name for file in files] == ["1.jpg", "2.jpg"]
    with pytest.raises(ImageReadError, match=r"2\.jpg is broken or truncated .*--skip-broken"):
        list(read_image_files(files))
    with pytest.warns(UserWarning, match=r"skipped: .*2\.jpg"):
        assert [file.name for file, _ in read_image_files(files, skip_broken=True)] == ["1.jpg"]


@pytest.mark.parametrize("command", ["index", "upscale"])
def test_every_command_that_reads_a_folder(folder, tmp_path, capsys, command):
    words = [command, str(folder), "--out", str(tmp_path / "out")]
    assert main.main(words) == 1
    assert "2.jpg" in capsys.readouterr().err
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert main.main([*words, "--skip-broken"]) == 0
    printed = capsys.readouterr().out
    assert "1 images" in printed
    assert "2.jpg" in "\n".join(
        [printed, *(str(warning.message) for warning in caught)]
    )  # index prints it, upscale warns
    assert main.main([*words[:3], str(tmp_path / "small"), "--max-pixels", "100"]) == 1
    assert "--max-pixels 3072" in capsys.readouterr().err
