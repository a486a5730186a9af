"""Counts and warnings of images that were read, against numbers counted by hand."""

from pathlib import Path

from featlift.data.coco_objects import CocoObject
from featlift.data.coco_reader import CocoImage
from featlift.data.coco_report import build_report
from featlift.data.problems import DataProblem

RLE = {"size": [20, 30], "counts": "any"}


class Reader:
    annotation_file, classes = Path("labels.json"), ["cat", "dog"]
    problems = [DataProblem(Path("labels.json"), "image 9", "broken image", "cut")]


def instance(is_crowd=False, is_ignored=False, rle=None, **flags):
    return CocoObject(1, (1.0, 2.0, 5.0, 8.0), 24.0, is_crowd, is_ignored, rle, was_clipped=True, **flags)


def test_counts_notes_and_warnings():
    first = [
        instance(rle=RLE, has_other_area=True),
        instance(is_crowd=True),
        instance(is_ignored=True, has_other_area=True),
    ]
    second = [instance(has_other_extent=True)]
    images = [
        CocoImage(k, f"{k}.png", Path(f"{k}.png"), (20, 30), objects)
        for k, objects in enumerate((first, second, []), 1)
    ]
    report = build_report(Reader(), images, ["of the format"])
    counts = (report.num_images, report.num_objects, report.num_classes, report.num_empty_images)
    assert counts == (3, 2, 2, 1)
    assert (report.num_crowds, report.num_ignored, report.num_clipped_boxes) == (1, 1, 4)
    assert report.notes == ["of the format", "1 of 4 objects have a mask; masks are only used if all have one"]
    assert report.problems == Reader.problems
    assert [finding.examples for finding in report.findings] == [
        ["image 1 (1.png), box [1.0, 2.0, 4.0, 6.0], area 24"],
        ["image 2 (2.png), box [1.0, 2.0, 4.0, 6.0], area 24"],
    ]


def test_no_note_if_all_objects_have_masks():
    report = build_report(Reader(), [CocoImage(1, "1.png", Path("1.png"), (20, 30), [instance(rle=RLE)])])
    assert (report.notes, report.findings) == ([], [])
