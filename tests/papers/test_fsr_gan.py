"""FSR-GAN's training: who learns from what, what a critic can teach, and that what was learned helps."""

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as nnf

from featlift.checkpoints import load
from featlift.data.pairs import Pairs
from featlift.gallery import Collection, Encoding
from featlift.papers import fsr_gan
from featlift.papers.fsr_gan import (
    GAMES,
    Game,
    Settings,
    descend,
    distilled,
    generator,
    measure,
    per_ratio,
    strongest_ridge,
)
from featlift.retrieval.critic import DenseCritic, DescriptorCritic
from featlift.retrieval.generator import DescriptorGenerator
from featlift.retrieval.lifts import Identity
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


@pytest.fixture
def trained_parts(monkeypatch):
    """Copies of G and D before training, for comparing afterwards."""
    kept = {}
    real = fsr_gan.against

    def spy(D, G, *rest):
        kept["D"], kept["D before"] = D, copy.deepcopy(D)
        return real(D, G, *rest)

    monkeypatch.setattr(fsr_gan, "against", spy)
    return kept


def moved(before, after):
    """Every weight; a Wasserstein critic's last bias cancels out and stays."""
    pairs = zip(before.parameters(), after.parameters(), strict=True)
    return all(not torch.equal(a, b) for a, b in pairs if a.ndim > 1)


@pytest.mark.parametrize("kind", GAMES)
@pytest.mark.parametrize("name", ["residual", "conditioned", "paper"])
def test_both_players_move(tmp_path, trained_parts, kind, name):
    pairs, settings = made_up(), small(generator=name, game=Game(kind, turns=2))
    G = generator(settings, 64)
    before = copy.deepcopy(G)
    with Run(tmp_path, device="cpu", log_every=1) as run:
        descend(G, pairs, settings, run)
        lines = run.trace("generator")
    assert moved(before, G)
    assert moved(trained_parts["D before"], trained_parts["D"])
    assert isinstance(trained_parts["D"], DescriptorCritic if name == "paper" else DenseCritic)
    assert [("content" in line, "critic" in line) for line in lines] == [(False, True), (True, True)] * 3
    if kind == "wgan-clip":
        assert max(p.abs().max().item() for p in trained_parts["D"].parameters()) <= 0.01


@pytest.mark.parametrize("kind", GAMES)
def test_the_adversarial_term_alone_reaches_the_generator(kind):
    """The bug of a detached critic: the term is there, and trains nothing."""
    torch.manual_seed(0)
    G, D = generator(small(), 64), DenseCritic(64, 16)
    _, fool = GAMES[kind]
    fool(D(G(made_up().low[2]))).backward()
    assert G.correction.weight.grad.abs().sum() > 0


def test_a_generator_learns_what_is_lost_and_leaves_the_sharp_alone(tmp_path):
    pairs, fresh = made_up(), made_up(seed=1)
    settings = small(steps=150, descent=Descent("adam", 3e-3, weight_decay=0.0, schedule="cosine"))
    with Run(tmp_path, device="cpu") as run:
        G = descend(generator(settings, 64), pairs, settings, run)
    assert error(G, fresh) < 0.6 * error(Identity(), fresh)
    assert error(G, Pairs((1,), fresh.low[:1], fresh.high)) < 0.1


def test_ridge_and_per_ratio_learn_too(tmp_path):
    pairs, fresh = made_up(), made_up(seed=1)
    assert error(strongest_ridge(pairs), fresh) < 0.6 * error(Identity(), fresh)
    settings = small(steps=240, descent=Descent("adam", 3e-3, weight_decay=0.0, schedule="cosine"))
    with Run(tmp_path, device="cpu") as run:
        lift = per_ratio(pairs, settings, run)
        assert {line["stage"] for line in run.trace()} == {"ratio-2", "ratio-4"}
    assert error(lift, fresh) < 0.6 * error(Identity(), fresh)


def test_the_paper_is_what_the_text_says():
    paper = Settings.paper()
    assert isinstance(generator(paper, 4096), DescriptorGenerator)
    assert (paper.game, paper.exponent, paper.descent.rate) == (Game("wgan-clip", 1.0, 5, 0.01), 2, 8e-4)
    assert paper.ratios == (2, 3, 4, 5, 6, 7, 8)
    assert paper.encoding.encoder == "vgg16-fc7"


@pytest.fixture
def places(tmp_path):
    from featlift.data.places import write_places

    write_places(tmp_path / "places", places=3, views=2, queries=1, size=48)
    write_places(tmp_path / "places" / "learn", places=3, views=2, queries=0, size=48, seed=1)
    images = str(tmp_path / "places")
    collection = Collection("classes", images, learn_from=str(tmp_path / "places" / "learn"))
    return small(collection=collection, encoding=Encoding("gist", size=64, cache=str(tmp_path / "cache")))


def test_from_pictures_to_curves(tmp_path, places):
    with Run(tmp_path / "run", places, device="cpu") as run:
        G = fsr_gan.train(places, run)
    again = load(tmp_path / "run" / "generator.safetensors").eval()
    found = measure({"raw": Identity(), "fsr-gan": G, "loaded": again}, places)
    assert set(found["map"]) == {"raw", "fsr-gan", "loaded"}
    assert found["map"]["fsr-gan"] == found["map"]["loaded"]
    assert found["distance"]["raw"][1] == (0, 0)
    assert found["distance"]["raw"][4][0] > found["distance"]["raw"][2][0] > 0
    assert found["short_side"] == {1: 48, 2: 24, 4: 12}
    assert found["bits"][1] > found["bits"][2] > found["bits"][4]


def test_a_distilled_encoder_moves_towards_its_teacher(tmp_path, places):
    encoding = replace(places.encoding, encoder="mobilenetv2_050", size=32)
    settings = replace(places, encoding=encoding, steps=2, batch=2)
    files = fsr_gan.learning(places.collection)
    F = fsr_gan.remembering(encoding)
    high = fsr_gan.seen(F, files, 1)
    with Run(tmp_path / "run", device="cpu") as run:
        student = distilled(settings, run, files, high)
    before = dict(F.describer.named_parameters())
    assert any(not torch.equal(before[name], p) for name, p in student.named_parameters())
    assert student(torch.rand(2, 3, 32, 32)).shape == high[:2].shape


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Game("poker"), "wgan-gp"),
        (lambda: Collection("zoo"), "holidays"),
        (lambda: generator(Settings(generator="nothing"), 64), "residual, conditioned"),
    ],
)
def test_unknown_names_are_answered_with_the_known(make, words):
    with pytest.raises(ValueError, match=words):
        make()
