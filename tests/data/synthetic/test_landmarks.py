"""Synthetic landmarks: reproducible, different from each other, writing can be interrupted."""

import numpy as np

from featlift.data.retrieval_readers import load_class_folders
from featlift.data.synthetic.landmarks import draw_landmark, draw_landmark_view, write_synthetic_landmarks


def pixels(image):
    return np.asarray(image, dtype=float)


def test_a_view_follows_from_its_numbers():
    assert np.array_equal(pixels(draw_landmark_view(3, 1, 48)), pixels(draw_landmark_view(3, 1, 48)))
    assert not np.array_equal(pixels(draw_landmark_view(3, 1, 48)), pixels(draw_landmark_view(3, 2, 48)))
    assert not np.array_equal(pixels(draw_landmark_view(3, 1, 48)), pixels(draw_landmark_view(3, 1, 48, seed=1)))
    assert draw_landmark_view(0, 0, 48).size == (48, 48)


def test_landmarks_differ():
    scenes = [pixels(draw_landmark(p, 96)) for p in range(6)]
    apart = [np.abs(a - b).mean() for i, a in enumerate(scenes) for b in scenes[:i]]
    assert min(apart) > 10


def test_no_view_extends_past_the_scene():
    """Outside the scene a transformed image is exactly black, and nothing in a scene is."""
    assert all((pixels(draw_landmark_view(p, v, 48)).sum(axis=2) > 0).all() for p in range(6) for v in range(6))


def test_writing_goes_on_where_it_stopped(tmp_path):
    write_synthetic_landmarks(tmp_path, num_landmarks=2, gallery_views=2, query_views=1, image_size=32)
    kept = tmp_path / "gallery/landmark-000/00.png"
    kept.write_bytes(b"mine")
    (tmp_path / "gallery/landmark-001/01.png").unlink()
    write_synthetic_landmarks(tmp_path, num_landmarks=2, gallery_views=2, query_views=1, image_size=32)
    assert kept.read_bytes() == b"mine"
    assert not list(tmp_path.rglob("*.part"))
    collection = load_class_folders(tmp_path / "gallery", tmp_path / "query")
    assert [q.positives for q in collection.queries] == [{0, 1}, {2, 3}]
