"""Nothing is computed twice, nothing stale is returned, and an interruption costs at most one flush."""

import pytest
import torch
from torch import nn

from featlift.retrieval.cache import DescriptorCache, embedder_fingerprint, image_key
from featlift.retrieval.descriptors import AveragePooling, Embedder, GeM, downscale_then_resize, embed_images
from featlift.retrieval.gist import Gist


def describer(seed=0, size=16, pool=None):
    torch.manual_seed(seed)
    return Embedder(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), pool or AveragePooling(), size)


class Reader:
    def __init__(self, n):
        self.pictures = list(torch.rand(n, 3, 20, 24, generator=torch.Generator().manual_seed(3)))
        self.asked = []
        self.fails_at = None

    def __call__(self, i):
        if i == self.fails_at:
            raise KeyboardInterrupt
        self.asked.append(i)
        return self.pictures[i]


def keys(n):
    return [f"k{i}" for i in range(n)]


def test_equals_describing_and_reads_only_once(tmp_path):
    reader, model = Reader(5), describer()
    expected = embed_images(model, [downscale_then_resize(p, 3, 16) for p in reader.pictures])
    first = DescriptorCache(tmp_path, model, 4).embed(keys(5), reader, ratio=3)
    torch.testing.assert_close(first, expected)
    assert torch.equal(DescriptorCache(tmp_path, model, 4).embed(keys(5)[::-1], reader, ratio=3), first.flip(0))
    assert reader.asked == [0, 1, 2, 3, 4]
    DescriptorCache(tmp_path, model, 4).embed(keys(2), reader, ratio=2)
    assert reader.asked[5:] == [0, 1]


def test_an_interruption_keeps_what_was_flushed(tmp_path):
    reader, model = Reader(7), describer()
    reader.fails_at = 5
    cache = DescriptorCache(tmp_path, model, 4, chunk_size=2)
    with pytest.raises(KeyboardInterrupt):
        cache.embed(keys(7), reader)
    reader.fails_at, reader.asked = None, []
    out = DescriptorCache(tmp_path, model, 4, chunk_size=2).embed(keys(7), reader)
    assert reader.asked == [4, 5, 6]
    torch.testing.assert_close(out, embed_images(model, [downscale_then_resize(p, 1, 16) for p in reader.pictures]))


def test_the_same_picture_twice_is_one(tmp_path):
    reader = Reader(2)
    out = DescriptorCache(tmp_path, describer(), 4).embed(["k", "k"], reader)
    assert len(reader.asked) == 1
    assert torch.equal(out[0], out[1])


def test_fingerprints_tell_apart_what_differs():
    prints = [
        embedder_fingerprint(describer()),
        embedder_fingerprint(describer(seed=1)),
        embedder_fingerprint(describer(size=20)),
        embedder_fingerprint(describer(pool=GeM(3.0))),
        embedder_fingerprint(describer(pool=GeM(4.0))),
        embedder_fingerprint(describer(), downscale_mode="input"),
        embedder_fingerprint(Embedder(Gist())),
    ]
    assert len(set(prints)) == len(prints)
    assert embedder_fingerprint(describer()) == prints[0]


def test_a_buffer_counts():
    model = describer()
    model.register_buffer("mean", torch.zeros(3), persistent=False)
    before = embedder_fingerprint(model)
    model.mean += 1
    assert embedder_fingerprint(model) != before


def test_picture_keys_follow_the_content(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_bytes(b"one")
    b.write_bytes(b"one")
    assert image_key(a) == image_key(b) != image_key(a, (0, 0, 1, 1))
    b.write_bytes(b"two")
    assert image_key(a) != image_key(b)


def test_unknown_view(tmp_path):
    with pytest.raises(ValueError, match="picture, input, decimated"):
        DescriptorCache(tmp_path, describer(), 4, downscale_mode="sideways")
