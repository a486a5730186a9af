"""Collections by name, and their training images."""

from dataclasses import replace

import pytest
import torch
from PIL import Image

from featlift.data.retrieval_collections import (
    RETRIEVAL_COLLECTIONS,
    CollectionConfig,
    list_held_out_images,
    list_train_images,
    open_collection,
)
from featlift.data.synthetic.landmarks import write_synthetic_landmarks
from featlift.papers.fsr_gan.descriptors import describe_files
from featlift.retrieval.embedders import EmbedderConfig
from featlift.retrieval.embedding_cache import build_descriptor_cache


def test_synthetic_landmarks_are_written_and_others_train(tmp_path, monkeypatch):
    import featlift.data.retrieval_collections as module

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


def test_holidays_trains_on_everything_but_the_queries(tmp_path):
    for number in (100000, 100001, 100002, 100100, 100101):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{number}.jpg")
    config = CollectionConfig("holidays", str(tmp_path), train_images="database", num_train_images=1)
    assert [file.stem for file in list_train_images(config)] == ["100001", "100002", "100101"]
    assert [file.stem for file in list_held_out_images(config)] == ["100000", "100100"]


def test_the_held_out_images_are_the_rest_of_the_database_or_the_queries(tmp_path):
    write_synthetic_landmarks(tmp_path, num_landmarks=3, gallery_views=2, query_views=1, image_size=32)
    config = CollectionConfig("class-folders", str(tmp_path), train_images="database", num_train_images=4)
    train, rest = list_train_images(config), list_held_out_images(config)
    assert (len(train), len(rest)) == (4, 2)
    assert set(train) | set(rest) == set(open_collection(config).database)
    others = replace(config, train_images=str(tmp_path / "gallery"))
    assert list_held_out_images(others) == [query.image_path for query in open_collection(others).queries]
