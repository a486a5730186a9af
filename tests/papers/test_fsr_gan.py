"""FSR-GAN's training: who learns from what, what a critic can teach, and that what was learned helps."""

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as nnf

from featlift.checkpoints import load
from featlift.data.pairs import DescriptorPairs
from featlift.gallery import CollectionConfig, EmbedderConfig
from featlift.papers import fsr_gan
from featlift.papers.fsr_gan import (
    GAN_LOSSES,
    REGULARISATION_CANDIDATES,
    GANConfig,
    RegularizationConfig,
    Settings,
    build_generator,
    evaluate_generators,
    select_regularization,
    train_generator,
)
from featlift.retrieval.discriminator import DescriptorDiscriminator, MLPDiscriminator
from featlift.retrieval.generator import DescriptorGenerator
from featlift.retrieval.linear_baselines import IdentityGenerator
from featlift.training import OptimizerConfig, Run


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
    return DescriptorPairs((1, 2, 4), nnf.normalize(high * fade, dim=2), nnf.normalize(high, dim=1))


def small(**changes):
    """A laptop's laptop."""
    base = Settings(
        hidden_dim=32,
        ratios=(1, 2, 4),
        steps=3,
        batch_size=16,
        optimizer=OptimizerConfig("adam", 1e-3, weight_decay=0.0),
    )
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
    real = fsr_gan.train_with_critic

    def spy(D, G, *rest):
        kept["D"], kept["D before"] = D, copy.deepcopy(D)
        return real(D, G, *rest)

    monkeypatch.setattr(fsr_gan, "against", spy)
    return kept


def moved(before, after):
    """Every weight; a Wasserstein critic's last bias cancels out and stays."""
    pairs = zip(before.parameters(), after.parameters(), strict=True)
    return all(not torch.equal(a, b) for a, b in pairs if a.ndim > 1)


@pytest.mark.parametrize("kind", GAN_LOSSES)
@pytest.mark.parametrize("name", ["residual", "conditioned", "paper"])
def test_both_players_move(tmp_path, trained_parts, kind, name):
    pairs, settings = made_up(), small(generator=name, game=GANConfig(kind, n_critic=2))
    G = build_generator(settings, 64)
    before = copy.deepcopy(G)
    with Run(tmp_path, device="cpu", log_every=1) as run:
        train_generator(G, pairs, settings, run)
        lines = run.read_log("generator")
    assert moved(before, G)
    assert moved(trained_parts["D before"], trained_parts["D"])
    assert isinstance(trained_parts["D"], DescriptorDiscriminator if name == "paper" else MLPDiscriminator)
    assert [("content" in line, "critic" in line) for line in lines] == [(False, True), (True, True)] * 3
    if kind == "wgan-clip":
        assert max(p.abs().max().item() for p in trained_parts["D"].parameters()) <= 0.01


@pytest.mark.parametrize("kind", GAN_LOSSES)
def test_the_adversarial_term_alone_reaches_the_generator(kind):
    """The bug of a detached critic: the term is there, and trains nothing."""
    torch.manual_seed(0)
    G, D = build_generator(small(), 64), MLPDiscriminator(64, 16)
    _, fool = GAN_LOSSES[kind]
    fool(D(G(made_up().low[2]))).backward()
    assert G.correction.weight.grad.abs().sum() > 0


def test_a_generator_learns_what_is_lost_and_leaves_the_sharp_alone(tmp_path):
    pairs, fresh = made_up(), made_up(seed=1)
    settings = small(steps=150, descent=OptimizerConfig("adam", 3e-3, weight_decay=0.0, schedule="cosine"))
    with Run(tmp_path, device="cpu") as run:
        G = train_generator(build_generator(settings, 64), pairs, settings, run)
    assert error(G, fresh) < 0.6 * error(IdentityGenerator(), fresh)
    assert error(G, DescriptorPairs((1,), fresh.low[:1], fresh.high)) < 0.1


def test_a_relative_loss_leaves_alone_what_lost_little(tmp_path):
    """Equal steps: what is done to ratio 2 relative to ratio 4 is less."""
    pairs, fresh = made_up(), made_up(seed=1)
    errors = {}
    for relative in (False, True):
        settings = small(
            steps=60,
            caution=RegularizationConfig(relative_loss=relative),
            descent=OptimizerConfig("adam", 3e-3, weight_decay=0.0),
        )
        with Run(tmp_path / str(relative), device="cpu") as run:
            G = train_generator(build_generator(settings, 64), pairs, settings, run)
        errors[relative] = error(G, fresh.at_ratio(1))
    assert errors[True] < errors[False]


def test_the_caution_that_finds_more_is_taken(tmp_path, places, monkeypatch):
    """Trials learn from three quarters; the last quarter is asked for by crops. Three of four shift all queries far in one direction."""
    taught = []

    def pretend(G, pairs, settings, run, stage):
        taught.append((settings.caution, len(pairs.high), settings.game.kind))
        if settings.caution != RegularizationConfig(relative_loss=True):
            torch.nn.init.constant_(G.gate.bias, 50)
            if settings.caution.rank:
                torch.nn.init.normal_(G.correction[-1].weight)
            constant = G.correction[0] if settings.caution.rank else G.correction
            torch.nn.init.normal_(constant.bias, std=1e4)
        return G.eval()

    monkeypatch.setattr(fsr_gan, "descend", pretend)
    F, files = fsr_gan.build_descriptor_cache(places.encoding), fsr_gan.list_train_images(places.collection)
    pairs = fsr_gan.build_descriptor_pairs(F, files, places.ratios)
    with Run(tmp_path / "run", device="cpu") as run:
        found = select_regularization(replace(places, adversarial=GANConfig("wgan-gp")), F, files, pairs, run)
        assert [line["step"] for line in run.read_log("suited")] == [1, 2, 3, 4]
    assert found.regularization == RegularizationConfig(relative_loss=True)
    assert found.adversarial.kind == "wgan-gp"
    assert taught == [(caution, 9, "off") for caution in REGULARISATION_CANDIDATES]
    assert select_regularization(found, F, files, pairs, run) is found


def test_the_paper_is_what_the_text_says():
    paper = Settings.paper()
    assert isinstance(build_generator(paper, 4096), DescriptorGenerator)
    assert (paper.adversarial, paper.focal_exponent, paper.optimizer.lr) == (
        GANConfig("wgan-clip", 1.0, 5, 0.01),
        2,
        8e-4,
    )
    assert paper.ratios == (2, 3, 4, 5, 6, 7, 8)
    assert paper.encoding.encoder == "vgg16-fc7"


@pytest.fixture
def places(tmp_path):
    from featlift.data.synthetic.landmarks import write_synthetic_landmarks

    write_synthetic_landmarks(tmp_path / "places", num_landmarks=3, gallery_views=2, query_views=1, image_size=48)
    write_synthetic_landmarks(
        tmp_path / "places" / "learn", num_landmarks=6, gallery_views=2, query_views=0, image_size=48, seed=1
    )
    images = str(tmp_path / "places")
    collection = CollectionConfig("classes", images, train_images=str(tmp_path / "places" / "learn"))
    return small(
        collection=collection, encoding=EmbedderConfig("gist", input_size=64, cache_folder=str(tmp_path / "cache"))
    )


def test_from_pictures_to_curves(tmp_path, places):
    with Run(tmp_path / "run", places, device="cpu") as run:
        G = fsr_gan.train(places, run)
    again = load(tmp_path / "run" / "generator.safetensors").eval()
    found = evaluate_generators({"raw": IdentityGenerator(), "fsr-gan": G, "loaded": again}, places)
    assert set(found["map"]) == {"raw", "fsr-gan", "loaded"}
    assert found["map"]["fsr-gan"] == found["map"]["loaded"]
    assert found["distance"]["raw"][1] == (0, 0)
    assert found["distance"]["raw"][4][0] > found["distance"]["raw"][2][0] > 0
    assert found["short_side"] == {1: 48, 2: 24, 4: 12}
    assert found["bits"][1] > found["bits"][2] > found["bits"][4]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: GANConfig("poker"), "wgan-gp"),
        (lambda: CollectionConfig("zoo"), "holidays"),
        (lambda: build_generator(Settings(generator="nothing"), 64), "residual, conditioned"),
    ],
)
def test_unknown_names_are_answered_with_the_known(make, words):
    with pytest.raises(ValueError, match=words):
        make()
