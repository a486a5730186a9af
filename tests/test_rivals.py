"""What FSR-GAN has to beat: each learns what is lost, and none needs more than G does."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as nnf

from featlift.data.landmarks import read_picture
from featlift.data.pairs import Pairs
from featlift.data.synthetic.landmarks import write_places
from featlift.gallery import Collection, Encoding, learning, remembering, seen
from featlift.image_sr import Bicubic
from featlift.papers.fsr_gan import Settings
from featlift.retrieval.linear_baselines import Identity
from featlift.rivals import distilled, enlarged, mean_shift, per_ratio, strongest_ridge
from featlift.training import Descent, Run


def made_up(n=200, dimension=64, seed=0):
    """Descriptors that lose the second half of their numbers step by step; what is lost follows from what stays."""
    draw = torch.Generator().manual_seed(seed)
    code, mixing = (
        torch.rand(n, 6, generator=draw),
        torch.rand(6, dimension, generator=torch.Generator().manual_seed(9)),
    )
    high = code @ mixing
    fade = torch.ones(3, 1, dimension)
    fade[1, :, dimension // 2 :], fade[2, :, dimension // 2 :] = 0.5, 0.0
    return Pairs((1, 2, 4), nnf.normalize(high * fade, dim=2), nnf.normalize(high, dim=1))


def small(**changes):
    """A laptop's laptop."""
    base = Settings(hidden=32, ratios=(1, 2, 4), steps=3, batch=16, descent=Descent("adam", 1e-3, weight_decay=0.0))
    return replace(base, **changes)


def error(lift, pairs):
    ratio = torch.tensor(pairs.ratios).repeat_interleave(len(pairs.high)).float()
    with torch.no_grad():
        return (
            (lift(pairs.low.flatten(0, 1), ratio) - pairs.high.repeat(len(pairs.ratios), 1)).norm(dim=1).mean().item()
        )


def test_ridge_and_per_ratio_learn_too(tmp_path):
    pairs, fresh = made_up(), made_up(seed=1)
    assert error(strongest_ridge(pairs), fresh) < 0.6 * error(Identity(), fresh)
    settings = small(steps=240, descent=Descent("adam", 3e-3, weight_decay=0.0, schedule="cosine"))
    with Run(tmp_path, device="cpu") as run:
        lift = per_ratio(pairs, settings, run)
        assert {line["stage"] for line in run.trace()} == {"ratio-2", "ratio-4"}
    assert error(lift, fresh) < 0.6 * error(Identity(), fresh)


def test_a_mean_shift_moves_all_queries_of_a_ratio_alike():
    pairs = made_up()
    lift, x = mean_shift(pairs), made_up(seed=1).low[2, :5]
    moved = lift(x, torch.tensor([4.0, 4, 4, 2, 1])) - x
    torch.testing.assert_close(moved[0], sum(pairs.high - pairs.low[2]) / 200, atol=1e-5, rtol=0)
    torch.testing.assert_close(moved[1], moved[2])
    assert not torch.allclose(moved[2], moved[3])
    assert torch.equal(moved[4], torch.zeros(64))


def test_a_distilled_encoder_moves_towards_its_teacher(tmp_path, places):
    encoding = replace(places.encoding, encoder="mobilenetv2_050", size=32)
    settings = replace(places, encoding=encoding, steps=2, batch=2)
    files = learning(places.collection)
    F = remembering(encoding)
    high = seen(F, files, 1)
    with Run(tmp_path / "run", device="cpu") as run:
        student = distilled(settings, run, files, high)
    before = dict(F.describer.named_parameters())
    assert any(not torch.equal(before[name], p) for name, p in student.named_parameters())
    assert student(torch.rand(2, 3, 32, 32)).shape == high[:2].shape


@pytest.fixture
def places(tmp_path):
    write_places(tmp_path / "places", places=3, views=2, queries=0, size=48)
    collection = Collection("classes", str(tmp_path / "places"), learn_from=str(tmp_path / "places"))
    return small(collection=collection, encoding=Encoding("gist", size=64, cache=str(tmp_path / "cache")))


def test_pictures_enlarged_first_are_seen_as_they_would_be_without_a_network(places):
    """Bicubic enlargement is what F's own resizing does, but for rounding to 8 bits."""
    F, files = remembering(places.encoding), learning(places.collection)
    found = enlarged(F.describer, Bicubic(2), map(read_picture, files), 2)
    assert (found - seen(F, files, 2)).norm(dim=1).max() < 0.3 * (seen(F, files, 1) - seen(F, files, 2)).norm(
        dim=1
    ).min()
