"""Embedders and collections by name."""

from featlift.papers.fsr_gan.descriptors import describe_files
import pytest
import torch

from featlift.data.retrieval_collections import (
    RETRIEVAL_COLLECTIONS,
    CollectionConfig,
    list_train_images,
    open_collection,
)
from featlift.retrieval.embedders import EmbedderConfig, build_embedder
from featlift.retrieval.embedding_cache import build_descriptor_cache


@pytest.mark.parametrize(
    ("config", "dimension"),
    [
        (EmbedderConfig("gist", input_size=64), 576),
        (EmbedderConfig("mobilenetv2_050", input_size=32), 1280),
        (EmbedderConfig("resnet18", input_size=32, pooling="gem", mean_std=(0.5, 0.5)), 512),
    ],
)
def test_embedders_report_their_descriptor_length(config, dimension):
    F, reported = build_embedder(config)
    assert F(torch.rand(2, 3, F.input_size, F.input_size)).shape == (2, dimension) == (2, reported)


def test_unknown_pooling():
    with pytest.raises(ValueError, match="gem"):
        build_embedder(EmbedderConfig("resnet18", pooling="max"))


def test_synthetic_landmarks_are_written_and_others_train(tmp_path, monkeypatch):
    import featlift.gallery as module

    sizes = {"num_landmarks": 3, "gallery_views": 2, "image_size": 32}
    real = module.write_synthetic_landmarks
    defaults = {"query_views": 1, "seed": 0}
    monkeypatch.setattr(module, "write_synthetic_landmarks", lambda f, **k: real(f, **{**defaults, **k, **sizes}))
    collection = CollectionConfig("synthetic", str(tmp_path))
    landmarks = open_collection(collection)
    assert (len(landmarks.database), len(landmarks.queries)) == (6, 3)
    train = list_train_images(collection)
    assert len(train) == 6
    assert not {f.read_bytes() for f in train} & {f.read_bytes() for f in landmarks.database}
    F = build_descriptor_cache(EmbedderConfig("gist", input_size=64, cache_folder=str(tmp_path / "cache")))
    assert torch.equal(describe_files(F, train, 2), describe_files(F, train, 2))
    part = list_train_images(CollectionConfig("synthetic", str(tmp_path), train_images="database", num_train_images=4))
    assert len(part) == 4
    assert set(part) < set(landmarks.database)


def test_every_collection_has_a_reader(tmp_path):
    for name in RETRIEVAL_COLLECTIONS[1:]:
        with pytest.raises(FileNotFoundError):
            open_collection(CollectionConfig(name, str(tmp_path / "images"), str(tmp_path / "truth")))
