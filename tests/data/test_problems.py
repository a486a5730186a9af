from pathlib import Path

from featlift.data.problems import DataProblem, DatasetError, DatasetReport

PROBLEMS = [DataProblem(Path("a.json"), f"annotation {k}", "broken box", "it has no area") for k in range(13)]


def test_an_error_shows_ten_and_keeps_all():
    error = DatasetError(PROBLEMS, "Repair it.")
    lines = str(error).splitlines()
    assert lines[0] == "a.json: annotation 0: it has no area"
    assert lines[-2:] == ["… and 3 more", "Repair it."]
    assert len(lines) == 12
    assert error.problems == PROBLEMS


def test_a_report_lists_skipped_entries_and_reasons():
    other = DataProblem(Path("a.json"), "image 5 (x.jpg)", "missing image", "there is no file x.jpg")
    text = str(
        DatasetReport(
            Path("a.json"),
            4,
            9,
            2,
            num_empty_images=1,
            num_crowds=3,
            num_clipped_boxes=2,
            notes=["a note"],
            problems=[*PROBLEMS, other],
        )
    )
    for words in (
        "4 images, 9 objects of 2 classes", "1 images have no object", "3 crowd regions", "2 boxes exceeded",
        "a note", "skipped, broken box: 13", "annotation 9: it has no area", "… and 3 more",
        "skipped, missing image: 1", "no file x.jpg",
    ):  # fmt: skip
        assert words in text


def test_a_sound_set_has_one_line():
    assert str(DatasetReport(Path("a.json"), 4, 9, 2)) == "a.json: 4 images, 9 objects of 2 classes"
