"""FSR-GAN's training: updated networks, gradients through the critic, and the effect of training."""

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as nnf

from featlift.checkpoints import load
from featlift.data.retrieval_collections import CollectionConfig, list_train_images
from featlift.papers import fsr_gan
from featlift.papers.fsr_gan import Settings, training
from featlift.papers.fsr_gan.evaluation import evaluate_generators
from featlift.papers.fsr_gan.settings import GAN_LOSSES, REGULARIZATION_CANDIDATES, GANConfig, RegularizationConfig
from featlift.papers.fsr_gan.training import (
    build_descriptor_pairs,
    build_generator,
    select_regularization,
    train_generator,
    train_with_critic,
)
from featlift.retrieval.descriptor_pairs import DescriptorPairs
from featlift.retrieval.discriminator import DescriptorDiscriminator, MLPDiscriminator
from featlift.retrieval.embedders import EmbedderConfig
from featlift.retrieval.embedding_cache import build_descriptor_cache
from featlift.retrieval.generator import DescriptorGenerator, IdentityGenerator
from featlift.training import OptimizerConfig, Run


def synthetic_pairs(n=200, dimension=64, seed=0):
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
    """Tiny settings."""
    base = Settings(
        hidden_dim=32,
        ratios=(1, 2, 4),
        steps=3,
        batch_size=16,
        optimizer=OptimizerConfig("adam", 1e-3, weight_decay=0.0),
    )
    return replace(base, **changes)


def error(generator, pairs):
    ratio = torch.tensor(pairs.ratios).repeat_interleave(len(pairs.high)).float()
    with torch.no_grad():
        return (
            (generator(pairs.low.flatten(0, 1), ratio) - pairs.high.repeat(len(pairs.ratios), 1))
            .norm(dim=1)
            .mean()
            .item()
        )


@pytest.fixture
def trained_parts(monkeypatch):
    """Copies of G and D before training, for comparing afterwards."""
    networks = {}
    real = train_with_critic

    def spy(D, G, *rest):
        networks["D"], networks["D before"] = D, copy.deepcopy(D)
        return real(D, G, *rest)

    monkeypatch.setattr(training, "train_with_critic", spy)
    return networks


def moved(before, after):
    """Every weight; a Wasserstein critic's last bias cancels out and stays."""
    pairs = zip(before.parameters(), after.parameters(), strict=True)
    return all(not torch.equal(a, b) for a, b in pairs if a.ndim > 1)


@pytest.mark.parametrize("kind", GAN_LOSSES)
@pytest.mark.parametrize("name", ["residual", "conditioned", "paper"])
def test_both_networks_are_updated(tmp_path, trained_parts, kind, name):
    pairs, settings = synthetic_pairs(), small(generator=name, adversarial=GANConfig(kind, n_critic=2))
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
    """With a detached critic the term would have no gradient."""
    torch.manual_seed(0)
    G, D = build_generator(small(), 64), MLPDiscriminator(64, 16)
    _, generator_loss = GAN_LOSSES[kind]
    generator_loss(D(G(synthetic_pairs().low[2]))).backward()
    assert G.correction.weight.grad.abs().sum() > 0


def test_a_generator_learns_what_is_lost_and_preserves_full_resolution(tmp_path):
    pairs, fresh = synthetic_pairs(), synthetic_pairs(seed=1)
    settings = small(steps=150, optimizer=OptimizerConfig("adam", 3e-3, weight_decay=0.0, schedule="cosine"))
    with Run(tmp_path, device="cpu") as run:
        G = train_generator(build_generator(settings, 64), pairs, settings, run)
    assert error(G, fresh) < 0.6 * error(IdentityGenerator(), fresh)
    assert error(G, DescriptorPairs((1,), fresh.low[:1], fresh.high)) < 0.1


def test_a_relative_loss_leaves_alone_what_lost_little(tmp_path):
    """After equal steps, the error at ratio 2 is smaller."""
    pairs, fresh = synthetic_pairs(), synthetic_pairs(seed=1)
    errors = {}
    for relative in (False, True):
        settings = small(
            steps=60,
            regularization=RegularizationConfig(relative_loss=relative),
            optimizer=OptimizerConfig("adam", 3e-3, weight_decay=0.0),
        )
        with Run(tmp_path / str(relative), device="cpu") as run:
            G = train_generator(build_generator(settings, 64), pairs, settings, run)
        errors[relative] = error(G, fresh.at_ratio(1))
    assert errors[True] < errors[False]


def test_the_regularization_with_the_highest_map_is_selected(tmp_path, places, monkeypatch):
    """Trials train on three quarters and query the last one by crops. Three of four candidates shift all queries in one direction."""
    trials = []

    def fake_training(G, pairs, settings, run, stage):
        trials.append((settings.regularization, len(pairs.high), settings.adversarial.kind))
        if settings.regularization != RegularizationConfig(relative_loss=True):
            torch.nn.init.constant_(G.gate.bias, 50)
            if settings.regularization.rank:
                torch.nn.init.normal_(G.correction[-1].weight)
            constant = G.correction[0] if settings.regularization.rank else G.correction
            torch.nn.init.normal_(constant.bias, std=1e4)
        return G.eval()

    monkeypatch.setattr(training, "train_generator", fake_training)
    F, files = build_descriptor_cache(places.embedder), list_train_images(places.collection)
    pairs = build_descriptor_pairs(F, files, places.ratios)
    with Run(tmp_path / "run", device="cpu") as run:
        results = select_regularization(replace(places, adversarial=GANConfig("wgan-gp")), F, files, pairs, run)
        assert [line["step"] for line in run.read_log("regularization")] == [1, 2, 3, 4]
    assert results.regularization == RegularizationConfig(relative_loss=True)
    assert results.adversarial.kind == "wgan-gp"
    assert trials == [(candidate, 9, "off") for candidate in REGULARIZATION_CANDIDATES]
    assert select_regularization(results, F, files, pairs, run) is results


def test_the_paper_is_what_the_text_says():
    paper = Settings.paper()
    assert isinstance(build_generator(paper, 4096), DescriptorGenerator)
    adversarial = paper.adversarial
    assert (adversarial.kind, adversarial.term_weight, adversarial.critic_updates) == ("wgan-clip", 1.0, 5)
    assert (adversarial.weight_clip, paper.focal_exponent, paper.optimizer.lr) == (0.01, 2, 8e-4)
    assert paper.ratios == (2, 3, 4, 5, 6, 7, 8)
    assert paper.embedder.encoder == "vgg16-fc7"


@pytest.fixture
def places(tmp_path):
    from featlift.data.synthetic.landmarks import write_synthetic_landmarks

    write_synthetic_landmarks(tmp_path / "places", num_landmarks=3, gallery_views=2, query_views=1, image_size=48)
    write_synthetic_landmarks(
        tmp_path / "places" / "learn", num_landmarks=6, gallery_views=2, query_views=0, image_size=48, seed=1
    )
    images = str(tmp_path / "places")
    collection = CollectionConfig("class-folders", images, train_images=str(tmp_path / "places" / "learn"))
    return small(
        collection=collection, embedder=EmbedderConfig("gist", input_size=64, cache_folder=str(tmp_path / "cache"))
    )


def test_from_images_to_curves(tmp_path, places):
    with Run(tmp_path / "run", places, device="cpu") as run:
        G = fsr_gan.train(places, run)
    again = load(tmp_path / "run" / "generator.safetensors").eval()
    results = evaluate_generators({"raw": IdentityGenerator(), "fsr-gan": G, "loaded": again}, places)
    assert set(results["map"]) == {"raw", "fsr-gan", "loaded"}
    assert results["map"]["fsr-gan"] == results["map"]["loaded"]
    assert results["distance"]["raw"][1] == (0, 0)
    assert results["distance"]["raw"][4][0] > results["distance"]["raw"][2][0] > 0
    assert results["short_side"] == {1: 48, 2: 24, 4: 12}
    assert results["bits"][1] > results["bits"][2] > results["bits"][4]


def test_the_default_critic_with_a_penalty_does_not_outweigh_the_distance(tmp_path):
    """With the weight of Eq. (9) and five updates of the critic, the distance grows: 0.06 to 0.36 within 20 steps on fc7 descriptors."""
    config = GANConfig("wgan-gp")
    assert (config.term_weight, config.critic_updates) == (0.1, 1)
    assert (GANConfig("wgan-clip").term_weight, GANConfig("wgan-clip").critic_updates) == (1.0, 5)
    assert (GANConfig("wgan-gp", 2.0, 3).term_weight, GANConfig("wgan-gp", 2.0, 3).critic_updates) == (2.0, 3)
    torch.manual_seed(0)
    pairs, settings = synthetic_pairs(), small(adversarial=config, regularization=RegularizationConfig(), steps=60)
    with Run(tmp_path, device="cpu") as run:
        G = train_generator(build_generator(settings, 64), pairs, settings, run)
    assert error(G, pairs) < error(IdentityGenerator(), pairs)


@pytest.mark.parametrize(("mode", "side"), [("image", 48), ("input", 64), ("nearest", 48)])
def test_a_conditioned_generator_keeps_the_side_of_full_images(tmp_path, places, mode, side):
    settings = replace(places, generator="conditioned", embedder=replace(places.embedder, downscale_mode=mode), steps=1)
    settings = replace(settings, regularization=RegularizationConfig())
    with Run(tmp_path / "run", settings, device="cpu") as run:
        fsr_gan.train(settings, run)
    assert load(tmp_path / "run" / "generator.safetensors").full_side == side


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GANConfig("unknown"), "wgan-gp"),
        (lambda: CollectionConfig("zoo"), "holidays"),
        (lambda: build_generator(Settings(generator="nothing"), 64), "residual, conditioned"),
        (
            lambda: Settings(embedder=EmbedderConfig("gist", fast_decode=True)),
            "--embedder.fast-decode is for featlift index",
        ),
    ],
)
def test_errors_for_unknown_or_unsuitable_values_name_what_is_possible(make, message):
    with pytest.raises(ValueError, match=message):
        make()
