"""Parts of benchmarks/fsr_gan.py on a collection of six small images."""

import argparse
from dataclasses import replace

import fsr_gan
import pytest
import retrieval_baselines
import torch
from PIL import Image
from retrieval_images import SOURCES, write_photo_crops, write_views
from run import collect_metadata, write_result

from featlift.data.retrieval_collections import CollectionConfig, list_train_images
from featlift.data.synthetic.landmarks import write_synthetic_landmarks
from featlift.papers.fsr_gan import Settings
from featlift.papers.fsr_gan.evaluation import apply_generator, query_descriptors, query_sizes, retrieval_curves
from featlift.papers.fsr_gan.training import build_descriptor_pairs
from featlift.retrieval.embedders import EmbedderConfig
from featlift.retrieval.embedding_cache import build_descriptor_cache
from featlift.retrieval.generator import IdentityGenerator
from report import fill_blocks, read_results


@pytest.fixture
def settings(tmp_path):
    write_synthetic_landmarks(tmp_path / "places", num_landmarks=3, gallery_views=2, query_views=1, image_size=64)
    write_synthetic_landmarks(
        tmp_path / "known", num_landmarks=4, gallery_views=2, query_views=0, image_size=64, seed=1
    )
    collection = CollectionConfig(
        "class-folders", str(tmp_path / "places"), train_images=str(tmp_path / "known" / "gallery")
    )
    embedder = EmbedderConfig("gist", input_size=64, cache_folder=str(tmp_path / "cache"))
    return Settings(collection, embedder, hidden_dim=16, ratios=(1, 2, 6), steps=2, batch_size=4)


def test_a_whole_case_becomes_a_file_and_a_page(tmp_path, settings, monkeypatch):
    monkeypatch.setattr(retrieval_baselines, "SCALES", (2,))
    args = argparse.Namespace(srcnn_steps=1, vdsr_steps=1, raml_steps=1)
    pairs = build_descriptor_pairs(
        build_descriptor_cache(settings.embedder), list_train_images(settings.collection), settings.ratios
    )
    low = query_descriptors(settings, settings.ratios)
    blind = fsr_gan.with_selected_regularization(settings, pairs, tmp_path / "runs")
    generators, seconds = fsr_gan.train_all(blind, replace(blind, generator="conditioned"), pairs, 0, tmp_path / "runs")
    generators = {"raw": IdentityGenerator(), **generators}
    queries = {name: apply_generator(generator, low) for name, generator in generators.items()}
    baselines = retrieval_baselines.train_baselines(settings, args, tmp_path / "runs")
    assert set(baselines) == {"SRCNN, then F", "VDSR, then F"}
    assert baselines["SRCNN, then F"][2].shape == low[2].shape
    results = {
        "settings": {"blind": blind},
        "learned_from": len(pairs.high),
        "seconds": seconds,
        **fsr_gan.merge_seeds([retrieval_curves(queries, settings), retrieval_curves(baselines, settings)]),
        **query_sizes(settings, settings.ratios),
        "large_scale": fsr_gan.large_scale(queries, settings, list_train_images(settings.collection)),
        "moved": fsr_gan.compare_queries(low[6], queries["FSR-GAN, no critic"][6], settings),
    }
    assert list(results["large_scale"]["raw"]) == [0, 1, 2, 4, 8]
    assert results["large_scale"]["raw"][0] == results["map"]["raw"][6][0]
    assert results["large_scale"]["raw"][8] <= results["large_scale"]["raw"][0]
    metadata = collect_metadata(torch.device("cpu"), "pytest")
    write_result("tiny", fsr_gan.build_tables("tiny", 1, results), metadata, tmp_path, results)
    page = fill_blocks("", read_results(tmp_path))
    assert "| VDSR, then F |" in page
    assert "| short side of the query, px | 64 | 32 | 11 |" in page
    fsr_gan.plot_results("tiny", results, tmp_path)
    assert {path.name for path in tmp_path.glob("*.png")} == {
        f"fsr_gan-tiny-{kind}.png" for kind in ("map", "distance", "bits", "distractors")
    }


def test_a_distilled_encoder_at_every_ratio(tmp_path, settings):
    embedder = replace(settings.embedder, encoder="mobilenetv2_050", input_size=32)
    queries = retrieval_baselines.distilled_queries(replace(settings, embedder=embedder), 1, tmp_path / "runs")
    assert {ratio: len(x) for ratio, x in queries.items()} == {1: 3, 2: 3, 6: 3}


def test_seeds_are_merged():
    first = {"map": {"raw": {2: 0.5}}, "distance": {"raw": {2: (0.1, 9.0)}}}
    second = {"map": {"raw": {2: 0.7}}, "distance": {"raw": {2: (0.3, 9.0)}}}
    merged = fsr_gan.merge_seeds([first, second])
    assert merged == {"map": {"raw": {2: [0.5, 0.7]}}, "distance": {"raw": {2: [0.1, 0.3]}}}
    assert fsr_gan.format_mean_range(merged["map"]["raw"][2]) == "0.600 ± 0.100"
    assert fsr_gan.format_mean_range([0.5]) == "0.500"


def test_photo_crops_are_deterministic(tmp_path):
    for number, name in enumerate(SOURCES):
        (tmp_path / "data" / name).mkdir(parents=True)
        Image.radial_gradient("L").resize((130, 100)).save(tmp_path / "data" / name / f"{number}.png")
    first, again = (write_photo_crops(tmp_path / "data", tmp_path / out, 5) for out in ("a", "b"))
    assert len(list(first.iterdir())) == 5
    for file in first.iterdir():
        assert (again / file.name).read_bytes() == file.read_bytes()
        assert min(Image.open(file).size) >= 56


def test_views_are_in_the_folder_of_their_image(tmp_path):
    (tmp_path / "gallery" / "stop").mkdir(parents=True)
    Image.radial_gradient("L").save(tmp_path / "gallery" / "stop" / "1.png")
    out = write_views(tmp_path / "gallery", tmp_path / "out", views_per_image=2)
    assert sorted(file.name for file in (out / "stop").iterdir()) == ["1-0.png", "1-1.png", "1.png"]
    assert 0.7 * 256 < Image.open(out / "stop" / "1-0.png").width < 256
