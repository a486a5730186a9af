"""Ground-truth files as their authors write them, in miniature."""

import pickle

import numpy as np
import pytest
from PIL import Image

from featlift.data.image_io import read_image_crop
from featlift.data.retrieval_readers import (
    PARIS_CORRUPT,
    load_class_folders,
    load_holidays,
    load_oxford5k,
    load_paris6k,
    load_revisited,
)


def make(folder, *names, size=(6, 4)):
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (255, 0, 0)).save(file)
    return folder


def write(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.txt").write_text(text)
    return folder


@pytest.fixture
def oxford(tmp_path):
    images = make(tmp_path / "images", *[f"all_souls_00000{i}.jpg" for i in range(5)])
    truth = write(
        tmp_path / "truth",
        all_souls_1_query="oxc1_all_souls_000002 1.5 0.5 5.0 3.0\n",
        all_souls_1_good="all_souls_000000\nall_souls_000002\n",
        all_souls_1_ok="all_souls_000003\n",
        all_souls_1_junk="all_souls_000004\n",
    )
    return images, truth


def test_oxford(oxford):
    collection = load_oxford5k(*oxford)
    (query,) = collection.queries
    assert query.image_path.stem == "all_souls_000002"  # without oxc1_
    assert query.box == (1.5, 0.5, 5.0, 3.0)
    assert (query.positives, query.junk) == ({0, 2, 3}, {4})
    assert len(collection.database) == 5
    assert read_image_crop(query.image_path, query.box).shape == (3, 3, 3)


def test_a_missing_image_is_named(oxford):
    images, truth = oxford
    (images / "all_souls_000003.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"all_souls_1_query.txt names 'all_souls_000003'"):
        load_oxford5k(images, truth)


def test_wrong_folders_are_reported(oxford):
    with pytest.raises(FileNotFoundError, match="ground-truth"):
        load_oxford5k(oxford[0], oxford[0])
    with pytest.raises(FileNotFoundError, match="contains no image"):
        load_oxford5k(oxford[1], oxford[1])


def test_paris_leaves_out_the_corrupt_files(tmp_path):
    assert len(PARIS_CORRUPT) == 20
    images = make(tmp_path / "images", "louvre/paris_louvre_000135.jpg", "defense/paris_defense_000001.jpg")
    (images / "louvre/paris_louvre_000136.jpg").write_text("<html>302 Found</html>")
    truth = write(
        tmp_path / "truth",
        louvre_1_query="paris_louvre_000135 0 0 3 3",
        louvre_1_good="paris_louvre_000135\nparis_louvre_000136\n",
        louvre_1_ok="",
        louvre_1_junk="",
    )
    collection = load_paris6k(images, truth)
    assert [file.stem for file in collection.database] == ["paris_defense_000001", "paris_louvre_000135"]
    assert collection.queries[0].positives == {1}


@pytest.fixture
def revisit(tmp_path):
    images = make(tmp_path / "jpg", "a.jpg", "b.jpg", "c.jpg", "d.jpg", "q0.jpg", "q1.jpg")
    gnd = [
        {"bbx": np.array([1.0, 1, 4, 3]), "easy": np.array([0]), "hard": np.array([1, 2]), "junk": np.array([3])},
        {"bbx": [0.0, 0, 2, 2], "easy": [2], "hard": [], "junk": []},
    ]
    record = {"imlist": ["c", "a", "b", "d"], "qimlist": ["q0", "q1"], "gnd": gnd}
    (tmp_path / "gnd.pkl").write_bytes(pickle.dumps(record))
    return images, tmp_path / "gnd.pkl"


@pytest.mark.parametrize(
    ("difficulty", "expected"),
    [
        ("easy", [({0}, {1, 2, 3}), ({2}, set())]),
        ("medium", [({0, 1, 2}, {3}), ({2}, set())]),
        ("hard", [({1, 2}, {0, 3})]),
    ],
)
def test_revisited(revisit, difficulty, expected):
    collection = load_revisited(*revisit, difficulty)
    assert [file.stem for file in collection.database] == ["c", "a", "b", "d"]  # the file's order: rows are its numbers
    assert [(q.positives, q.junk) for q in collection.queries] == expected
    assert collection.queries[0].image_path.stem == "q0"
    assert collection.queries[0].box == (1, 1, 4, 3)


def test_revisited_refuses(revisit, tmp_path):
    with pytest.raises(ValueError, match="easy, medium, hard"):
        load_revisited(*revisit, "difficult")
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(print))
    with pytest.raises(pickle.UnpicklingError, match=r"builtins\.print"):
        load_revisited(revisit[0], tmp_path / "evil.pkl")


def test_holidays(tmp_path):
    images = make(tmp_path, *[f"{n}.jpg" for n in (100000, 100001, 100002, 100100, 100101)])
    collection = load_holidays(images)
    assert [(q.image_path.stem, q.positives, q.junk) for q in collection.queries] == [
        ("100000", {1, 2}, {0}),
        ("100100", {4}, {3}),
    ]


def test_folders_by_class(tmp_path):
    gallery = make(tmp_path / "gallery", "cat/1.png", "cat/2.png", "dog/1.png")
    queries = make(tmp_path / "query", "dog/9.png", "cat/9.png")
    assert [q.positives for q in load_class_folders(gallery, queries).queries] == [{0, 1}, {2}]
    assert [(q.positives, q.junk) for q in load_class_folders(gallery).queries] == [({1}, {0}), ({0}, {1})]
    make(queries, "cow/1.png")
    with pytest.raises(FileNotFoundError, match="cow"):
        load_class_folders(gallery, queries)
