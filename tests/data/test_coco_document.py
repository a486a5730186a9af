"""The JSON file itself, and whole numbers in it."""

import json

import pytest

from featlift.data.coco_document import load_coco_document, read_categories, whole_number
from featlift.data.problems import DatasetError

DOCUMENT = {"images": [{}], "categories": [{"id": 9.0, "name": "b"}, {"id": 2, "name": "a"}]}


def test_only_image_info_files_need_no_annotations(tmp_path):
    for name in ("image_info_test-dev2017.json", "instances_val.json"):
        (tmp_path / name).write_text(json.dumps(DOCUMENT))
    assert load_coco_document(tmp_path / "image_info_test-dev2017.json")["annotations"] == []
    with pytest.raises(DatasetError, match=r"instances_val\.json: 'annotations'"):
        load_coco_document(tmp_path / "instances_val.json")


def test_categories_are_in_the_order_of_their_ids(tmp_path):
    assert list(read_categories(tmp_path, DOCUMENT).items()) == [(2, "a"), (9, "b")]


@pytest.mark.parametrize(
    ("value", "number"),
    [(7, 7), (7.0, 7), (0, 0), (2**63 - 1, 2**63 - 1), (2**63, None), (-1, None), (7.5, None), (True, None), ("7", None), (None, None)],
)  # fmt: skip
def test_whole_numbers(value, number):
    assert whole_number(value) == number
