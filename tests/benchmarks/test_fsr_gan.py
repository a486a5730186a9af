"""The parts of benchmarks/fsr_gan.py that can break, on a collection of six small pictures."""

import argparse
from dataclasses import replace

import fsr_gan
import picture_rivals
import pytest
import torch
from PIL import Image
from run import keep, made
from sign_pictures import SOURCES, photos, views

from featlift.data.synthetic.landmarks import write_synthetic_landmarks
from featlift.gallery import CollectionConfig, EmbedderConfig, build_descriptor_cache, list_train_images
from featlift.papers.fsr_gan import (
    Settings,
    apply_generator,
    build_descriptor_pairs,
    query_descriptors,
    query_sizes,
    retrieval_curves,
)
from featlift.retrieval.linear_baselines import IdentityGenerator
from report import filled, read


@pytest.fixture
def settings(tmp_path):
    write_synthetic_landmarks(tmp_path / "places", num_landmarks=3, gallery_views=2, query_views=1, image_size=64)
    write_synthetic_landmarks(
        tmp_path / "known", num_landmarks=4, gallery_views=2, query_views=0, image_size=64, seed=1
    )
    collection = CollectionConfig("classes", str(tmp_path / "places"), train_images=str(tmp_path / "known" / "gallery"))
    encoding = EmbedderConfig("gist", input_size=64, cache_folder=str(tmp_path / "cache"))
    return Settings(collection, encoding, hidden_dim=16, ratios=(1, 2, 6), steps=2, batch_size=4)


def test_a_whole_case_becomes_a_file_and_a_page(tmp_path, settings, monkeypatch):
    monkeypatch.setattr(picture_rivals, "SCALES", (2,))
    given = argparse.Namespace(srcnn_steps=1, vdsr_steps=1, raml_steps=1)
    pairs = build_descriptor_pairs(
        build_descriptor_cache(settings.encoding), list_train_images(settings.collection), settings.ratios
    )
    low = query_descriptors(settings, settings.ratios)
    blind = fsr_gan.cautious(settings, pairs, tmp_path / "runs")
    lifts, seconds = fsr_gan.learned(blind, replace(blind, generator="conditioned"), pairs, 0, tmp_path / "runs")
    queries = {name: apply_generator(lift, low) for name, lift in {"raw": IdentityGenerator(), **lifts}.items()}
    others = picture_rivals.rivals(settings, given, tmp_path / "runs")
    assert set(others) == {"SRCNN, then F", "VDSR, then F"}
    assert others["SRCNN, then F"][2].shape == low[2].shape
    found = {
        "settings": {"blind": blind},
        "learned_from": len(pairs.high),
        "seconds": seconds,
        **fsr_gan.gathered([retrieval_curves(queries, settings), retrieval_curves(others, settings)]),
        **query_sizes(settings, settings.ratios),
        "large_scale": fsr_gan.large_scale(queries, settings, list_train_images(settings.collection)),
        "moved": fsr_gan.who_moved(low[6], queries["FSR-GAN, no critic"][6], settings),
    }
    assert list(found["large_scale"]["raw"]) == [0, 1, 2, 4, 8]
    assert found["large_scale"]["raw"][0] == found["map"]["raw"][6][0]
    assert found["large_scale"]["raw"][8] <= found["large_scale"]["raw"][0]
    keep("tiny", fsr_gan.tables("tiny", 1, found), made(torch.device("cpu"), "pytest"), tmp_path, found)
    page = filled("", read(tmp_path))
    assert "| VDSR, then F |" in page
    assert "| short side of the query, px | 64 | 32 | 11 |" in page
    fsr_gan.draw("tiny", found, tmp_path)
    assert {path.name for path in tmp_path.glob("*.png")} == {
        f"fsr_gan-tiny-{kind}.png" for kind in ("map", "distance", "bits", "distractors")
    }


def test_a_distilled_encoder_answers_at_every_ratio(tmp_path, settings):
    encoding = replace(settings.encoding, encoder="mobilenetv2_050", size=32)
    found = picture_rivals.distilling(replace(settings, encoding=encoding), 1, tmp_path / "runs")
    assert {ratio: len(x) for ratio, x in found.items()} == {1: 3, 2: 3, 6: 3}


def test_seeds_are_put_side_by_side():
    one = {"map": {"raw": {2: 0.5}}, "distance": {"raw": {2: (0.1, 9.0)}}}
    two = {"map": {"raw": {2: 0.7}}, "distance": {"raw": {2: (0.3, 9.0)}}}
    found = fsr_gan.gathered([one, two])
    assert found == {"map": {"raw": {2: [0.5, 0.7]}}, "distance": {"raw": {2: [0.1, 0.3]}}}
    assert fsr_gan.cell(found["map"]["raw"][2]) == "0.600 ± 0.100"
    assert fsr_gan.cell([0.5]) == "0.500"


def test_crops_are_the_same_whenever_they_are_made(tmp_path):
    for number, name in enumerate(SOURCES):
        (tmp_path / "data" / name).mkdir(parents=True)
        Image.radial_gradient("L").resize((130, 100)).save(tmp_path / "data" / name / f"{number}.png")
    first, again = (photos(tmp_path / "data", tmp_path / out, 5) for out in ("a", "b"))
    assert len(list(first.iterdir())) == 5
    for file in first.iterdir():
        assert (again / file.name).read_bytes() == file.read_bytes()
        assert min(Image.open(file).size) >= 56


def test_views_stand_beside_what_they_are_views_of(tmp_path):
    (tmp_path / "gallery" / "stop").mkdir(parents=True)
    Image.radial_gradient("L").save(tmp_path / "gallery" / "stop" / "1.png")
    out = views(tmp_path / "gallery", tmp_path / "out", each=2)
    assert sorted(file.name for file in (out / "stop").iterdir()) == ["1-0.png", "1-1.png", "1.png"]
    assert 0.7 * 256 < Image.open(out / "stop" / "1-0.png").width < 256
