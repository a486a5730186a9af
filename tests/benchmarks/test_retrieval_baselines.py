"""Baselines of FSR-GAN: each of them learns the lost information from the training data of G."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as nnf
from retrieval_baselines import (
    distill_query_encoder,
    embed_super_resolved,
    fit_best_ridge,
    fit_mean_offsets,
    train_per_ratio,
)

from featlift.data.image_io import read_image_crop
from featlift.data.retrieval_collections import CollectionConfig, list_train_images
from featlift.data.synthetic.landmarks import write_synthetic_landmarks
from featlift.image_sr import BicubicSR
from featlift.papers.fsr_gan import Settings
from featlift.papers.fsr_gan.descriptors import describe_files
from featlift.retrieval.descriptor_pairs import DescriptorPairs
from featlift.retrieval.embedders import EmbedderConfig
from featlift.retrieval.embedding_cache import build_descriptor_cache
from featlift.retrieval.generator import IdentityGenerator
from featlift.training import OptimizerConfig, Run


def synthetic_pairs(n=200, dimension=64, seed=0):
    """Descriptors that gradually lose the second half of their elements, which can be predicted from the first half."""
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
    """Settings of a tiny training."""
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


def test_ridge_and_per_ratio_learn_too(tmp_path):
    pairs, fresh = synthetic_pairs(), synthetic_pairs(seed=1)
    assert error(fit_best_ridge(pairs), fresh) < 0.6 * error(IdentityGenerator(), fresh)
    settings = small(steps=240, optimizer=OptimizerConfig("adam", 3e-3, weight_decay=0.0, schedule="cosine"))
    with Run(tmp_path, device="cpu") as run:
        generator = train_per_ratio(pairs, settings, run)
        assert {line["stage"] for line in run.read_log()} == {"ratio-2", "ratio-4"}
    assert error(generator, fresh) < 0.6 * error(IdentityGenerator(), fresh)


def test_a_mean_offset_is_the_same_for_all_queries_of_a_ratio():
    pairs = synthetic_pairs()
    generator, x = fit_mean_offsets(pairs), synthetic_pairs(seed=1).low[2, :5]
    offsets = generator(x, torch.tensor([4.0, 4, 4, 2, 1])) - x
    torch.testing.assert_close(offsets[0], sum(pairs.high - pairs.low[2]) / 200, atol=1e-5, rtol=0)
    torch.testing.assert_close(offsets[1], offsets[2])
    assert not torch.allclose(offsets[2], offsets[3])
    assert torch.equal(offsets[4], torch.zeros(64))


def test_a_distilled_encoder_moves_towards_its_teacher(tmp_path, places):
    embedder = replace(places.embedder, encoder="mobilenetv2_050", input_size=32)
    settings = replace(places, embedder=embedder, steps=2, batch_size=2)
    files = list_train_images(places.collection)
    F = build_descriptor_cache(embedder)
    high = describe_files(F, files, 1)
    with Run(tmp_path / "run", device="cpu") as run:
        student = distill_query_encoder(settings, run, files, high)
    before = dict(F.embedder.named_parameters())
    assert any(not torch.equal(before[name], p) for name, p in student.named_parameters())
    assert student(torch.rand(2, 3, 32, 32)).shape == high[:2].shape


@pytest.fixture
def places(tmp_path):
    write_synthetic_landmarks(tmp_path / "places", num_landmarks=3, gallery_views=2, query_views=0, image_size=48)
    collection = CollectionConfig("class-folders", str(tmp_path / "places"), train_images=str(tmp_path / "places"))
    return small(
        collection=collection, embedder=EmbedderConfig("gist", input_size=64, cache_folder=str(tmp_path / "cache"))
    )


def test_bicubic_super_resolution_equals_resizing_of_the_query(places):
    """Bicubic enlargement equals F's own resizing up to rounding to 8 bits."""
    F, files = build_descriptor_cache(places.embedder), list_train_images(places.collection)
    descriptors = embed_super_resolved(F.embedder, BicubicSR(2), map(read_image_crop, files), 2)
    assert (descriptors - describe_files(F, files, 2)).norm(dim=1).max() < 0.3 * (
        describe_files(F, files, 1) - describe_files(F, files, 2)
    ).norm(dim=1).min()
