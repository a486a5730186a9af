"""Names to things: describers and collections."""

import pytest
import torch

from featlift.gallery import BENCHMARKS, Collection, Encoding, describer, learning, opened, remembering, seen


@pytest.mark.parametrize(
    ("encoding", "dimension"),
    [
        (Encoding("gist", size=64), 576),
        (Encoding("mobilenetv2_050", size=32), 1280),
        (Encoding("resnet18", size=32, pool="gem", statistics=(0.5, 0.5)), 512),
    ],
)
def test_describers_are_as_long_as_they_say(encoding, dimension):
    F, said = describer(encoding)
    assert F(torch.rand(2, 3, F.size, F.size)).shape == (2, dimension) == (2, said)


def test_unknown_pooling():
    with pytest.raises(ValueError, match="gem"):
        describer(Encoding("resnet18", pool="max"))


def test_the_built_in_places_are_made_and_others_are_learned_from(tmp_path, monkeypatch):
    import featlift.gallery as module

    sizes = {"places": 3, "views": 2, "size": 32}
    real = module.write_places
    monkeypatch.setattr(module, "write_places", lambda f, **k: real(f, **{"queries": 1, "seed": 0, **k, **sizes}))
    collection = Collection("places", str(tmp_path))
    landmarks = opened(collection)
    assert (len(landmarks.database), len(landmarks.queries)) == (6, 3)
    others = learning(collection)
    assert len(others) == 6
    assert not {f.read_bytes() for f in others} & {f.read_bytes() for f in landmarks.database}
    F = remembering(Encoding("gist", size=64, cache=str(tmp_path / "cache")))
    assert torch.equal(seen(F, others, 2), seen(F, others, 2))
    part = learning(Collection("places", str(tmp_path), learn_from="database", learn=4))
    assert len(part) == 4
    assert set(part) < set(landmarks.database)


def test_every_benchmark_has_a_reader(tmp_path):
    for name in BENCHMARKS[1:]:
        with pytest.raises(FileNotFoundError):
            opened(Collection(name, str(tmp_path / "images"), str(tmp_path / "truth")))
