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


def test_a_report_says_what_was_left_out_and_why():
    other = DataProblem(Path("a.json"), "image 5 (x.jpg)", "missing picture", "there is no file x.jpg")
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
        "4 pictures, 9 objects of 2 classes", "1 pictures have no object", "3 crowd regions", "2 boxes reached",
        "a note", "left out, broken box: 13", "annotation 9: it has no area", "… and 3 more",
        "left out, missing picture: 1", "no file x.jpg",
    ):  # fmt: skip
        assert words in text


def test_a_sound_set_has_one_line():
    assert str(DatasetReport(Path("a.json"), 4, 9, 2)) == "a.json: 4 pictures, 9 objects of 2 classes"
