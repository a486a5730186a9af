import json

from featlift.data.coco_reader import CocoReader
from featlift.data.coco_report import build_coco_report
from featlift.data.formats.split_source import SplitSource


def test_the_report_counts_what_the_file_has(coco):
    truth = json.loads((coco / "instances_train.json").read_text())
    reader = CocoReader(SplitSource("coco", coco / "instances_train.json", coco / "train"))
    report = build_coco_report(reader, reader.read_images(), ["a note"])
    assert (report.num_images, report.num_objects) == (len(truth["images"]), len(truth["annotations"]))
    assert report.num_classes == len(truth["categories"])
    assert report.notes[0] == "a note"
    assert not report.problems


def test_an_area_of_its_own_is_a_warning(coco):
    truth = json.loads((coco / "instances_train.json").read_text())
    truth["annotations"][0]["area"] *= 9
    source = SplitSource("coco", coco / "instances_train.json", coco / "train", truth)
    reader = CocoReader(source)
    (finding,) = build_coco_report(reader, reader.read_images(), []).findings
    assert (finding.severity, len(finding.examples)) == ("warning", 1)
