"""Names to things: describers and collections."""

import pytest
import torch

from featlift.gallery import (
    RETRIEVAL_COLLECTIONS,
    CollectionConfig,
    EmbedderConfig,
    build_descriptor_cache,
    build_embedder,
    describe_files,
    list_train_images,
    open_collection,
)


@pytest.mark.parametrize(
    ("encoding", "dimension"),
    [
        (EmbedderConfig("gist", input_size=64), 576),
        (EmbedderConfig("mobilenetv2_050", input_size=32), 1280),
        (EmbedderConfig("resnet18", input_size=32, pooling="gem", mean_std=(0.5, 0.5)), 512),
    ],
)
def test_describers_are_as_long_as_they_say(encoding, dimension):
    F, said = build_embedder(encoding)
    assert F(torch.rand(2, 3, F.input_size, F.input_size)).shape == (2, dimension) == (2, said)


def test_unknown_pooling():
    with pytest.raises(ValueError, match="gem"):
        build_embedder(EmbedderConfig("resnet18", pooling="max"))


def test_the_built_in_places_are_made_and_others_are_learned_from(tmp_path, monkeypatch):
    import featlift.gallery as module

    sizes = {"places": 3, "views": 2, "size": 32}
    real = module.write_synthetic_landmarks
    monkeypatch.setattr(module, "write_places", lambda f, **k: real(f, **{"queries": 1, "seed": 0, **k, **sizes}))
    collection = CollectionConfig("places", str(tmp_path))
    landmarks = open_collection(collection)
    assert (len(landmarks.database), len(landmarks.queries)) == (6, 3)
    others = list_train_images(collection)
    assert len(others) == 6
    assert not {f.read_bytes() for f in others} & {f.read_bytes() for f in landmarks.database}
    F = build_descriptor_cache(EmbedderConfig("gist", input_size=64, cache_folder=str(tmp_path / "cache")))
    assert torch.equal(describe_files(F, others, 2), describe_files(F, others, 2))
    part = list_train_images(CollectionConfig("places", str(tmp_path), train_images="database", num_train_images=4))
    assert len(part) == 4
    assert set(part) < set(landmarks.database)


def test_every_benchmark_has_a_reader(tmp_path):
    for name in RETRIEVAL_COLLECTIONS[1:]:
        with pytest.raises(FileNotFoundError):
            open_collection(CollectionConfig(name, str(tmp_path / "images"), str(tmp_path / "truth")))
