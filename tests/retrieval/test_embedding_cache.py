"""No descriptor is computed twice, none is stale, and an interruption loses at most one chunk."""

import pytest
import torch
from torch import nn

from featlift.retrieval.descriptors import AveragePooling, Embedder, GeM, downscale_then_resize, embed_images
from featlift.retrieval.embedding_cache import DescriptorCache, embedder_fingerprint, image_key
from featlift.retrieval.gist import Gist


def make_embedder(seed=0, size=16, pool=None):
    torch.manual_seed(seed)
    return Embedder(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), pool or AveragePooling(), size)


class Reader:
    def __init__(self, n):
        self.images = list(torch.rand(n, 3, 20, 24, generator=torch.Generator().manual_seed(3)))
        self.read_indices = []
        self.fails_at = None

    def __call__(self, i):
        if i == self.fails_at:
            raise KeyboardInterrupt
        self.read_indices.append(i)
        return self.images[i]


def keys(n):
    return [f"k{i}" for i in range(n)]


def test_equals_embedding_and_reads_only_once(tmp_path):
    reader, model = Reader(5), make_embedder()
    expected = embed_images(model, [downscale_then_resize(p, 3, 16) for p in reader.images])
    first = DescriptorCache(tmp_path, model, 4).embed(keys(5), reader, ratio=3)
    torch.testing.assert_close(first, expected)
    assert torch.equal(DescriptorCache(tmp_path, model, 4).embed(keys(5)[::-1], reader, ratio=3), first.flip(0))
    assert reader.read_indices == [0, 1, 2, 3, 4]
    DescriptorCache(tmp_path, model, 4).embed(keys(2), reader, ratio=2)
    assert reader.read_indices[5:] == [0, 1]


def test_an_interruption_keeps_the_written_chunks(tmp_path):
    reader, model = Reader(7), make_embedder()
    reader.fails_at = 5
    cache = DescriptorCache(tmp_path, model, 4, chunk_size=2)
    with pytest.raises(KeyboardInterrupt):
        cache.embed(keys(7), reader)
    reader.fails_at, reader.read_indices = None, []
    out = DescriptorCache(tmp_path, model, 4, chunk_size=2).embed(keys(7), reader)
    assert reader.read_indices == [4, 5, 6]
    torch.testing.assert_close(out, embed_images(model, [downscale_then_resize(p, 1, 16) for p in reader.images]))


def test_a_repeated_image_is_read_once(tmp_path):
    reader = Reader(2)
    out = DescriptorCache(tmp_path, make_embedder(), 4).embed(["k", "k"], reader)
    assert len(reader.read_indices) == 1
    assert torch.equal(out[0], out[1])


def test_fingerprints_of_different_embedders_differ():
    fingerprints = [
        embedder_fingerprint(make_embedder()),
        embedder_fingerprint(make_embedder(seed=1)),
        embedder_fingerprint(make_embedder(size=20)),
        embedder_fingerprint(make_embedder(pool=GeM(3.0))),
        embedder_fingerprint(make_embedder(pool=GeM(4.0))),
        embedder_fingerprint(make_embedder(), downscale_mode="input"),
        embedder_fingerprint(Embedder(Gist())),
    ]
    assert len(set(fingerprints)) == len(fingerprints)
    assert embedder_fingerprint(make_embedder()) == fingerprints[0]


def test_a_buffer_counts():
    model = make_embedder()
    model.register_buffer("mean", torch.zeros(3), persistent=False)
    before = embedder_fingerprint(model)
    model.mean += 1
    assert embedder_fingerprint(model) != before


def test_image_keys_depend_on_the_content(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_bytes(b"one")
    b.write_bytes(b"one")
    assert image_key(a) == image_key(b) != image_key(a, (0, 0, 1, 1))
    b.write_bytes(b"two")
    assert image_key(a) != image_key(b)


def test_unknown_downscale_mode(tmp_path):
    with pytest.raises(ValueError, match="image, input, nearest"):
        DescriptorCache(tmp_path, make_embedder(), 4, downscale_mode="sideways")
