import json
from dataclasses import replace

import pytest

from featlift.cli import main
from featlift.data.retrieval_collections import open_collection
from featlift.data.synthetic.landmarks import write_synthetic_landmarks
from featlift.papers.fsr_gan.descriptors import describe_files
from featlift.papers.fsr_gan.evaluation import evaluate_generators, load_retrieval_settings, plot_retrieval_curves
from featlift.retrieval.embedding_cache import build_descriptor_cache
from featlift.retrieval.generator import IdentityGenerator


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A training of two steps on six images of 48 px."""
    write_synthetic_landmarks(tmp_path / "places", num_landmarks=3, gallery_views=2, query_views=1, image_size=48)
    write_synthetic_landmarks(
        tmp_path / "known", num_landmarks=4, gallery_views=2, query_views=0, image_size=48, seed=1
    )
    monkeypatch.chdir(tmp_path)
    collection = [
        "--collection.name",
        "class-folders",
        "--collection.image_folder",
        "places",
        "--collection.train_images",
        "known",
    ]
    small = [
        "--embedder.input_size",
        "64",
        "--steps",
        "2",
        "--batch_size",
        "4",
        "--hidden_dim",
        "8",
        "--ratios",
        "[1, 4]",
    ]
    assert main.main(["train", "fsr-gan", "--run", "run", *collection, *small]) == 0
    return tmp_path / "run"


def test_evaluation_equals_the_result_of_the_run(run, capsys):
    capsys.readouterr()
    assert main.main(["evaluate", str(run)]) == 0
    found = json.loads((run / "curves" / "curves.json").read_text())
    result = json.loads((run / "result.json").read_text())["result"]
    assert found["map"]["super-resolved"] == result["map"]["fsr-gan"]
    assert found["short_side"] == {"1.0": 48, "4.0": 12}
    assert found["num_held_out"] == 3
    assert found["held_out_distance"]["raw"] == found["distance"]["raw"], "queries without boxes are whole images"
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["downscale", "short", "side", "kilobits", "raw", "super-resolved"]
    assert lines[2].split()[:3] == ["4", "12", "px"]
    assert {file.name for file in (run / "curves").iterdir()} == {"curves.json", "map.png", "bits.png", "distance.png"}


def test_other_images_can_be_searched(run, tmp_path):
    write_synthetic_landmarks(
        tmp_path / "other", num_landmarks=2, gallery_views=1, query_views=1, image_size=64, seed=5
    )
    assert main.main(["evaluate", str(run), "--data", str(tmp_path / "other"), "--out", str(tmp_path / "out")]) == 0
    found = json.loads((tmp_path / "out" / "curves.json").read_text())
    assert found["short_side"]["1.0"] == 64


def test_distractors_and_distances_at_full_resolution(run, tmp_path):
    write_synthetic_landmarks(
        tmp_path / "others", num_landmarks=6, gallery_views=1, query_views=0, image_size=48, seed=9
    )
    settings = load_retrieval_settings(run)
    with_others = replace(settings, collection=replace(settings.collection, distractors="others"))
    results = evaluate_generators({"raw": IdentityGenerator()}, with_others)
    assert results["map"] == evaluate_generators({"raw": IdentityGenerator()}, settings)["map"]
    assert all(results["distractor_map"]["raw"][r] <= results["map"]["raw"][r] for r in settings.ratios)
    plot_retrieval_curves(results, tmp_path)
    assert (tmp_path / "distractors.png").exists()
    landmarks, F = open_collection(settings.collection), build_descriptor_cache(settings.embedder)
    database, queries = (
        describe_files(F, files, 1) for files in (landmarks.database, [q.image_path for q in landmarks.queries])
    )
    pairs = {True: [], False: []}
    for query, vector in zip(landmarks.queries, queries, strict=True):
        for row, other in enumerate(database):
            pairs[row in query.positives].append(((vector - other) ** 2).sum().sqrt().item())
    distances = results["similar_distances"]
    assert distances["similar"] == pytest.approx(sum(pairs[True]) / len(pairs[True]), rel=1e-5)
    assert distances["non-similar"] == pytest.approx(sum(pairs[False]) / len(pairs[False]), rel=1e-5)
