"""A picture is looked at once, and what is found on disk is what would be said again."""

import pytest
import torch
from torch import nn

from featlift.distillation.feature_cache import CachedExtractor, extractor_fingerprint


class Eye(nn.Module):
    """Two levels; counts the pictures that it looks at."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.look = nn.Conv2d(3, 4, 3, padding=1)
        self.register_buffer("mean", torch.zeros(1, 3, 1, 1), persistent=False)
        self.seen = 0

    def forward(self, images):
        self.seen += len(images)
        fine = self.look(images)
        return {"p3": fine, "p10": nn.functional.avg_pool2d(fine, 2)}


PICTURES = torch.rand(4, 3, 8, 6)


def test_each_picture_is_looked_at_once_over_runs_too(tmp_path):
    plain, eye = Eye(), Eye()
    kept = CachedExtractor(eye, tmp_path)
    for order in ([0, 1], [1, 2], [2, 0], [3, 1, 0]):
        said, expected = kept(PICTURES[order]), plain(PICTURES[order])
        assert list(said) == ["p3", "p10"]
        for level in said:
            torch.testing.assert_close(said[level], expected[level])
    assert eye.seen == 4
    later = Eye()
    assert torch.equal(CachedExtractor(later, tmp_path)(PICTURES)["p3"], kept(PICTURES)["p3"])
    assert later.seen == 0
    assert kept.mean is eye.mean


@pytest.mark.parametrize("change", ["weight", "pixel", "shape"])
def test_what_is_not_the_same_is_looked_at_anew(tmp_path, change):
    CachedExtractor(Eye(), tmp_path)(PICTURES[:1])
    eye, picture = Eye(), PICTURES[:1].clone()
    if change == "weight":
        eye.look.weight.data[0, 0, 0, 0] += 1e-4
    elif change == "pixel":
        picture[0, 2, 7, 5] += 1e-4
    else:
        picture = picture.reshape(1, 3, 6, 8)
    said = CachedExtractor(eye, tmp_path)(picture)
    assert eye.seen == 1
    assert torch.equal(said["p3"], eye(picture)["p3"])


def test_room_that_is_full(tmp_path):
    """A picture's maps have 4·48 + 4·12 numbers: one of them has a place in 1,000 bytes, and none is left for the next."""
    eye = Eye()
    kept = CachedExtractor(eye, tmp_path, max_gigabytes=1e-6)
    kept(PICTURES[:1]), kept(PICTURES[1:2])
    assert len(list(tmp_path.glob("*/*.safetensors"))) == 1
    kept(PICTURES[:2])
    assert eye.seen == 3
    assert CachedExtractor(eye, tmp_path, max_gigabytes=1e-6).free_bytes < 40


def test_fingerprints():
    eye, other = Eye(), Eye()
    assert extractor_fingerprint(eye) == extractor_fingerprint(other)
    other.look = nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect")
    other.look.load_state_dict(eye.look.state_dict())
    assert extractor_fingerprint(eye) != extractor_fingerprint(other)
