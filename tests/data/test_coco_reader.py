"""Broken inputs, each with the error message that names its file and entry. The valid dataset has two images and three
objects.
"""

import json
import math

import numpy as np
import pytest
from PIL import Image

from featlift.data.coco import CocoDataset
from featlift.data.coco_reader import CocoReader
from featlift.data.formats.split_source import SplitSource
from featlift.data.problems import DatasetError

NAN = math.nan


def healthy():
    return {
        "images": [
            {"id": 10, "file_name": "a.png", "width": 40, "height": 30},
            {"id": 11, "file_name": "b.png", "width": 24, "height": 24},
        ],
        "annotations": [
            {"id": 1, "image_id": 10, "category_id": 7, "bbox": [2, 3, 10, 8], "area": 80, "iscrowd": 0},
            {"id": 2, "image_id": 10, "category_id": 3, "bbox": [20, 3, 20, 27], "area": 540, "iscrowd": 0},
            {"id": 3, "image_id": 11, "category_id": 7, "bbox": [0, 0, 24, 24], "area": 576, "iscrowd": 0},
        ],
        "categories": [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}],
    }


def written(folder, document):
    folder.mkdir(exist_ok=True)
    for name, shape in (("a.png", (30, 40, 3)), ("b.png", (24, 24, 3))):
        Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)).save(folder / name)
    (folder / "labels.json").write_text(document if isinstance(document, str) else json.dumps(document))
    return folder


def change(where, **changes):
    """A function that updates the entry ``where`` = (list, index) of a document; a value of ... removes the key."""

    def changed(document):
        entry = document[where[0]][where[1]]
        entry.update(changes)
        for key in [key for key, value in changes.items() if value is ...]:
            del entry[key]

    return changed


def put(where, value):
    def changed(document):
        document[where[0]][where[1]] = value

    return changed


FIRST, IMAGE = ("annotations", 0), ("images", 0)
BROKEN_ENTRIES = {  # change → message and objects left with skip_broken; an image that is left out had two objects
    "missing image": (change(IMAGE, file_name="c.png"), r"image 10 \(c\.png\): there is no file .*c\.png", 1),
    "image size mismatch": (change(IMAGE, width=41), r"image 10 \(a\.png\): the json says 41x30 pixels, the file has 40x30", 1),
    "sides swapped": (change(IMAGE, width=30, height=40), r"image 10 .*says 30x40 pixels, the file has 40x30", 1),
    "no width": (change(IMAGE, width=...), r"images\[0\]: it has no width", 1),
    "zero height": (change(IMAGE, height=0), r"image 10 \(a\.png\): its size is 40x0 pixels", 1),
    "width is text": (change(IMAGE, width="40"), r"image 10 \(a\.png\): its size is 40x30", 1),
    "image id is text": (change(IMAGE, id="x"), r"image x \(a\.png\): its id is not an integer", 1),
    "image is no entry": (put(IMAGE, "a.png"), r"images\[0\]: an entry is an object, not 'a\.png'", 1),
    "duplicate image": (change(("images", 1), id=10), r"image 10 \(b\.png\): this id is also that of a\.png", 2),
    "box outside": (change(FIRST, bbox=[35, 3, 10, 8]), r"annotation 1 \(image 10\): .* exceeds the image of 40x30 pixels by 5 px", 3),
    "box left of it": (change(FIRST, bbox=[-2.5, 3, 10, 8]), r"annotation 1 .* by 2\.5 px", 3),
    "box mostly outside": (change(FIRST, bbox=[36, 3, 10, 8]), r"annotation 1 .* by 6 px", 2),
    "box outside all": (change(FIRST, bbox=[45, 3, 10, 8]), r"annotation 1 .*has no area inside the image", 1),
    "box at the rim": (change(FIRST, bbox=[40, 3, 0.5, 8]), r"annotation 1 .*has no area inside the image", 2),
    "box left of the rim": (change(FIRST, bbox=[-0.9, 3, 0.5, 8]), r"annotation 1 .*has no area inside the image", 1),
    "box of no width in 32 bits": (change(FIRST, bbox=[5, 5, 1e-9, 3]), r"annotation 1 .*has no area", 2),
    "normalized box": (change(FIRST, bbox=[0.1, 0.2, 0.5, 0.4]), r"annotation 1 .*looks normalized", 1),
    "corners of a mask": (
        change(FIRST, bbox=[12, 13, 22, 21], segmentation=[[12, 13, 22, 13, 22, 21, 12, 21]]),
        r"annotation 1 .*looks like left, top, right, bottom: its mask",
        2,
    ),
    "mask off its box": (
        change(FIRST, segmentation=[[20, 20, 30, 20, 30, 28, 20, 28]]), r"annotation 1 .*mask .* does not touch its bbox", 2
    ),
    "mask outside": (change(FIRST, segmentation=[[50, 50, 60, 50, 60, 58]]), "annotation 1 .*covers no pixel", 3),
    "huge number": (change(FIRST, bbox=[2, 3, 10**400, 8]), "annotation 1 .*not a finite number", 1),
    "negative width": (change(FIRST, bbox=[20, 3, -10, 8]), r"annotation 1 .*bbox \[20, 3, -10, 8\] has no area", 1),
    "zero height box": (change(FIRST, bbox=[20, 3, 10, 0]), "annotation 1 .*has no area", 2),
    "NaN box": (change(FIRST, bbox=[NAN, 3, 10, 8]), r"annotation 1 .*bbox \[nan, 3, 10, 8\] has a value", 1),
    "infinite box": (change(FIRST, bbox=[2, 3, math.inf, 8]), "annotation 1 .*not a finite number", 1),
    "box of text": (change(FIRST, bbox=[2, 3, "10", 8]), "annotation 1 .*not a finite number", 1),
    "box of three": (change(FIRST, bbox=[2, 3, 10]), r"annotation 1 .*bbox is \[2, 3, 10\]; a box is four numbers", 1),
    "box is null": (change(FIRST, bbox=None), "annotation 1 .*bbox is None; a box is four", 1),
    "no box": (change(FIRST, bbox=...), r"annotations\[0\]: it has no bbox", 1),
    "unknown category": (change(FIRST, category_id=5), r"annotation 1 .*there is no category 5; known: 3, 7", 2),
    "unknown image": (change(FIRST, image_id=99), r"annotation 1 \(image 99\): there is no image with id 99", 2),
    "duplicate object": (change(("annotations", 1), id=1), r"annotation 1 \(image 10\): this id is used twice", 3),
    "object id is a list": (change(FIRST, id=[1]), r"annotations\[0\]: its id is \[1\], not an integer", 3),
    "no object id": (change(FIRST, id=...), r"annotations\[0\]: it has no id", 3),
    "no category": (change(FIRST, category_id=...), r"annotations\[0\]: it has no category_id", 2),
    "negative image id": (change(IMAGE, id=-1), r"image -1 \(a\.png\): its id is not an integer \(a whole number", 1),
    "image id of 64 bits": (change(IMAGE, id=2**63), r"image 9223372036854775808 .*its id is not", 1),
    "long file name": (change(IMAGE, file_name="x" * 300), "image 10 .*(cannot be opened|there is no file)", 1),
    "backslashes": (change(IMAGE, file_name="set\\a.png"), r"image 10 .*separators of Windows: write set/a\.png", 1),
    "ignore is 2": (change(FIRST, ignore=2), "annotation 1 .*ignore is 2; it is 0 or 1", 2),
    "size of run lengths": (change(FIRST, segmentation={"size": 5, "counts": "ab"}), "annotation 1 .*for size 5", 3),
    "object is no entry": (put(FIRST, 5), r"annotations\[0\]: an entry is an object, not 5", 2),
    "iscrowd is 2": (change(FIRST, iscrowd=2), "annotation 1 .*iscrowd is 2; it is 0 or 1", 2),
    "broken polygon": (change(FIRST, segmentation=[[1, 2, 3]]), "annotation 1 .*polygon 0 has 3 numbers", 3),
    "broken run lengths": (
        change(FIRST, segmentation={"size": [5, 5], "counts": "ab"}),
        r"annotation 1 .*for size \[5, 5\], the image has \[30, 40\]",
        3,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("breaking", "words", "left"), BROKEN_ENTRIES.values(), ids=BROKEN_ENTRIES)
def test_broken_entries_are_named_or_skipped_and_listed(tmp_path, breaking, words, left):
    document = healthy()
    breaking(document)
    folder = written(tmp_path / "set", document)
    with pytest.raises(DatasetError, match=rf"(?s)labels\.json: {words}.*--skip-broken"):
        CocoDataset(folder / "labels.json", folder)
    rest = CocoDataset(folder / "labels.json", folder, skip_broken=True)
    targets = [rest[k][1] for k in range(len(rest))]
    assert sum(int((target["iscrowd"] == 0).sum()) for target in targets) == rest.report.num_objects
    assert len(rest.report.problems) >= 1
    assert str(rest.report.problems[0]) in str(rest.report)
    assert rest.report.num_objects == left


def without(key):
    return json.dumps({name: value for name, value in healthy().items() if name != key})


def emptied(key):
    return json.dumps({**healthy(), key: []})


BROKEN_FILES = {
    "not json": ("{'images': ", r"labels\.json: the file: this is not JSON"),
    "a list": ("[1, 2]", "a COCO JSON file holds an object, not a list"),
    "no annotations": (without("annotations"), "'annotations': a COCO JSON file has .*; this file has images, categories"),
    "no images": (emptied("images"), "'images': the list is empty"),
    "no categories": (emptied("categories"), "'categories': the list is empty"),
    "category twice": (
        json.dumps({**healthy(), "categories": [{"id": 3, "name": "cat"}, {"id": 3, "name": "dog"}]}),
        "category 3: this id is used twice",
    ),
    "name twice": (
        json.dumps({**healthy(), "categories": [{"id": 3, "name": "cat"}, {"id": 7, "name": "cat"}]}),
        "category 'cat': the categories 3 and 7 have one name",
    ),
    "normalized boxes": (
        json.dumps({**healthy(), "annotations": [{**a, "bbox": [0.1, 0.2, 0.3, 0.25]} for a in healthy()["annotations"]]}),
        r"3 of 3 boxes, such as annotations\[0\] .* look normalized to 0…1",
    ),
    "corners": (
        json.dumps({**healthy(), "annotations": [{**a, "bbox": [2, 3, 12, 11]} for a in healthy()["annotations"][:1]]}),
        r"1 of 1 boxes, such as annotations\[0\] .* look like left, top, right, bottom",
    ),
    "nested": ("[" * 100_000, "this is not JSON"),
    "number of 5000 digits": ('{"images": ' + "1" * 5000 + "}", "this is not JSON"),
    "nameless category": (json.dumps({**healthy(), "categories": [{"id": 3}]}), r"categories\[0\]: a category has"),
}  # fmt: skip


@pytest.mark.parametrize("skip_broken", [False, True])
@pytest.mark.parametrize(("text", "words"), BROKEN_FILES.values(), ids=BROKEN_FILES)
def test_useless_files_are_never_skipped(tmp_path, text, words, skip_broken):
    folder = written(tmp_path / "set", text)
    with pytest.raises(DatasetError, match=words):
        CocoDataset(folder / "labels.json", folder, skip_broken)


def test_a_missing_json_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r"none\.json: the file: there is no such file"):
        CocoReader(SplitSource("coco", tmp_path / "none.json", tmp_path))


def test_nothing_left_is_an_error_even_when_skipping(tmp_path):
    folder = written(tmp_path / "set", healthy())
    for name in ("a.png", "b.png"):
        (folder / name).unlink()
    with pytest.raises(DatasetError, match=r"no file .*a\.png(?s:.*)no usable image is left"):
        CocoDataset(folder / "labels.json", folder, skip_broken=True)


def test_a_file_that_is_no_image_is_named(tmp_path):
    folder = written(tmp_path / "set", healthy())
    (folder / "a.png").write_bytes(b"hello")
    with pytest.raises(DatasetError, match=r"image 10 \(a\.png\): .*is not a readable image"):
        CocoDataset(folder / "labels.json", folder)


def test_a_truncated_image_is_named_when_read_and_can_be_skipped(tmp_path):
    folder = written(tmp_path / "set", healthy())
    (folder / "a.png").write_bytes((folder / "a.png").read_bytes()[:1500])
    with pytest.raises(ValueError, match=r"a\.png is broken or truncated"):
        CocoDataset(folder / "labels.json", folder)[0]
    rest = CocoDataset(folder / "labels.json", folder, skip_broken=True)
    assert [rest.image_name(k) for k in range(len(rest))] == ["b.png"]
    assert "broken image: 1" in str(rest.report)


def test_all_problems_are_reported_at_once(tmp_path):
    document = healthy()
    for breaking in (
        change(FIRST, bbox=[2, 3, 0, 8]),
        change(("annotations", 1), category_id=1),
        change(("images", 1), width=9),
    ):
        breaking(document)
    folder = written(tmp_path / "set", document)
    with pytest.raises(DatasetError) as caught:
        CocoDataset(folder / "labels.json", folder)
    assert [problem.kind for problem in caught.value.problems] == [
        "image size mismatch",
        "broken box",
        "unknown category",
    ]


def test_rounding_at_the_rim_is_clipped_and_reported(tmp_path):
    document = healthy()
    document["annotations"][0]["bbox"] = [-0.5, 3, 10, 27.75]
    folder = written(tmp_path / "set", document)
    dataset = CocoDataset(folder / "labels.json", folder)
    assert dataset[0][1]["boxes"][0].tolist() == [0, 3, 9.5, 30]
    assert "1 boxes exceeded their image" in str(dataset.report)


def test_the_healthy_set_is_sound(tmp_path):
    folder = written(tmp_path / "set", healthy())
    reader = CocoReader(SplitSource("coco", folder / "labels.json", folder))
    assert [len(entry.objects) for entry in reader.read_images()] == [2, 1]
    assert not reader.problems
    assert reader.classes == ["cat", "dog"]


def open_changed(folder, *changes, skip_broken=False):
    document = healthy()
    for apply in changes:
        apply(document)
    written(folder, document)
    return CocoDataset(folder / "labels.json", folder, skip_broken)


def test_an_unusable_object_becomes_an_ignored_region_of_its_class_or_of_all(tmp_path):
    rest = open_changed(
        tmp_path, change(FIRST, category_id=5), change(("annotations", 2), iscrowd="x"), skip_broken=True
    )
    assert [p.effect for p in rest.report.problems] == ["object ignored"] * 2
    assert rest[0][1]["labels"].tolist() == [0, 1]
    assert rest[0][1]["iscrowd"].tolist() == [1, 0]
    crowds = [(a["image_id"], a["category_id"], a["bbox"]) for a in rest.coco()["annotations"] if a["iscrowd"]]
    assert crowds == [(10, 3, [2, 3, 10, 8]), (10, 7, [2, 3, 10, 8]), (11, 7, [0, 0, 24, 24])]
    assert "2 ignored regions are neither object nor background" in str(rest.report)


def test_an_image_is_left_out_if_the_region_of_an_object_is_unknown(tmp_path):
    rest = open_changed(tmp_path, change(FIRST, bbox=[20, 3, -10, 8]), skip_broken=True)
    assert [image["id"] for image in rest.coco()["images"]] == [11]
    assert "image left out, broken box: 1" in str(rest.report)


def test_ignore_is_no_fault(tmp_path):
    dataset = open_changed(tmp_path, change(FIRST, ignore=1), change(("annotations", 1), ignore=False))
    assert dataset[0][1]["iscrowd"].tolist() == [1, 0]
    assert dataset.coco()["annotations"][0] | {"iscrowd": 1, "ignore": 1} == dataset.coco()["annotations"][0]
    assert (dataset.report.num_objects, dataset.report.num_ignored) == (2, 1)


SQUARE = [[2.0, 3, 12, 3, 12, 11, 2, 11]]


@pytest.mark.parametrize("mask", [[*SQUARE, [5.0, 5]], [[], *SQUARE], SQUARE], ids=["point", "empty", "good"])
def test_a_stray_polygon_is_dropped_and_its_object_stays(tmp_path, mask):
    rest = open_changed(tmp_path, change(FIRST, segmentation=mask), skip_broken=True)
    assert rest[0][1]["labels"].tolist() == [2, 1]
    masks = open_changed(
        tmp_path / "all", change(FIRST, segmentation=mask),
        *(change(("annotations", k), segmentation=[[1, 1, 9, 1, 9, 9]], bbox=[1, 1, 8, 8]) for k in (1, 2)), skip_broken=True,
    )  # fmt: skip
    assert masks.has_masks
    assert masks[0][1]["masks"][0].sum() == 80


def test_an_object_without_its_mask_is_ignored_where_all_others_have_one(tmp_path):
    others = [change(("annotations", k), segmentation=[[1, 1, 9, 1, 9, 9]], bbox=[1, 1, 8, 8]) for k in (1, 2)]
    rest = open_changed(tmp_path, change(FIRST, segmentation=[[]]), *others, skip_broken=True)
    assert rest.has_masks
    assert rest[0][1]["iscrowd"].tolist() == [1, 0]
    assert rest[0][1]["masks"][0].sum() == 80


@pytest.mark.parametrize(
    ("area", "mask", "expected"),
    [
        (80, None, 80), (70, None, 70), (..., None, 80), (None, None, 80), (1e400, None, 80), (900, None, 80), (-3, None, 80),
        (80, SQUARE, 80), (..., SQUARE, 80), (32, SQUARE, 80), (500, SQUARE, 80), (77.5, SQUARE, 77.5),
        (..., [[2.0, 3, 12, 3, 12, 4, 2, 11]], 45), (80, [[2.0, 3, 12, 3, 12, 4, 2, 4]], 10),
    ],
)  # fmt: skip
def test_the_area_is_that_of_the_mask(tmp_path, area, mask, expected):
    dataset = open_changed(tmp_path, change(FIRST, area=area, segmentation=mask))
    assert dataset[0][1]["area"][0] == pytest.approx(expected, abs=5 if mask and area is ... else 0)


def test_numbers_of_other_programs_are_read(tmp_path):
    """Pandas and MATLAB write 10.0; some write null or false for iscrowd; Windows programs a byte order mark."""
    dataset = open_changed(
        tmp_path, change(IMAGE, id=10.0, width=40.0), change(FIRST, image_id=10.0, category_id=7.0, id=1.0, iscrowd=None),
        change(("annotations", 1), iscrowd=False),
    )  # fmt: skip
    assert [dataset[k][1]["labels"].tolist() for k in range(2)] == [[2, 1], [2]]
    (tmp_path / "labels.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(healthy()).encode())
    assert len(CocoDataset(tmp_path / "labels.json", tmp_path)) == 2


def test_a_box_can_be_that_of_its_mask(tmp_path):
    dataset = open_changed(tmp_path, change(FIRST, bbox=..., segmentation=SQUARE))
    assert dataset[0][1]["boxes"][0].tolist() == [2, 3, 12, 11]


def test_the_limit_of_pixels_is_named(tmp_path):
    folder = written(tmp_path / "set", healthy())
    with pytest.raises(DatasetError, match=r"a\.png has 40x30 .*above the limit.*--max-pixels 1200"):
        CocoDataset(folder / "labels.json", folder, max_pixels=1199)
    assert len(CocoDataset(folder / "labels.json", folder, max_pixels=1200)) == 2


def test_an_area_that_agrees_with_corners_by_chance_is_no_fault(tmp_path):
    assert len(open_changed(tmp_path, change(FIRST, bbox=[2, 3, 12, 11], area=80))) == 2
