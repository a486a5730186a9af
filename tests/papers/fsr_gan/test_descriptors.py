"""Descriptors of files: cached by content and box, and of the cropped image."""

import pytest
import torch
from PIL import Image

from featlift.papers.fsr_gan.descriptors import describe_files
from featlift.retrieval.embedders import EmbedderConfig
from featlift.retrieval.embedding_cache import build_descriptor_cache


@pytest.fixture
def files(tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(2)]
    for i, path in enumerate(paths):
        Image.effect_noise((60, 40), 40 + 40 * i).save(path)
    return paths


def test_files_are_described_once(files, tmp_path):
    F = build_descriptor_cache(EmbedderConfig("gist", input_size=64, cache_folder=str(tmp_path / "cache")))
    descriptors = describe_files(F, files, 2)
    assert descriptors.shape[0] == 2
    assert not torch.equal(*descriptors)
    assert torch.equal(describe_files(F, files, 2), descriptors)
    assert len(F.store) == 2


def test_a_box_describes_the_crop(files, tmp_path):
    F = build_descriptor_cache(EmbedderConfig("gist", input_size=64, cache_folder=str(tmp_path / "cache")))
    box = (10.0, 5.0, 50.0, 35.0)
    crop = tmp_path / "crop.png"
    Image.open(files[0]).crop((10, 5, 50, 35)).save(crop)
    torch.testing.assert_close(describe_files(F, files[:1], 1, [box]), describe_files(F, [crop], 1))
