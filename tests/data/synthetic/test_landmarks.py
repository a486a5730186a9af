"""The built-in places: reproducible, different from each other, alike among themselves, safe to interrupt."""

import numpy as np

from featlift.data.landmarks import by_class
from featlift.data.synthetic.landmarks import draw_place, draw_view, write_places


def pixels(image):
    return np.asarray(image, dtype=float)


def test_a_view_follows_from_its_numbers():
    assert np.array_equal(pixels(draw_view(3, 1, 48)), pixels(draw_view(3, 1, 48)))
    assert not np.array_equal(pixels(draw_view(3, 1, 48)), pixels(draw_view(3, 2, 48)))
    assert not np.array_equal(pixels(draw_view(3, 1, 48)), pixels(draw_view(3, 1, 48, seed=1)))
    assert draw_view(0, 0, 48).size == (48, 48)


def test_places_differ():
    scenes = [pixels(draw_place(p, 96)) for p in range(6)]
    apart = [np.abs(a - b).mean() for i, a in enumerate(scenes) for b in scenes[:i]]
    assert min(apart) > 10


def test_no_view_looks_past_the_scene():
    """Outside the scene a transformed picture is exactly black, and nothing in a scene is."""
    assert all((pixels(draw_view(p, v, 48)).sum(axis=2) > 0).all() for p in range(6) for v in range(6))


def test_writing_goes_on_where_it_stopped(tmp_path):
    write_places(tmp_path, places=2, views=2, queries=1, size=32)
    kept = tmp_path / "gallery/place-000/00.png"
    kept.write_bytes(b"mine")
    (tmp_path / "gallery/place-001/01.png").unlink()
    write_places(tmp_path, places=2, views=2, queries=1, size=32)
    assert kept.read_bytes() == b"mine"
    assert not list(tmp_path.rglob("*.part"))
    collection = by_class(tmp_path / "gallery", tmp_path / "query")
    assert [q.positives for q in collection.queries] == [{0, 1}, {2, 3}]
