import json
import os
import shutil

import pytest
from PIL import Image

from featlift.cli import main
from featlift.deployment.image_sources import find_images


@pytest.fixture
def folder(coco, tmp_path):
    """The images of ``coco``, and a broken one."""
    shutil.copytree(coco, tmp_path / "images")
    (tmp_path / "images" / "broken.png").write_bytes(b"not an image")
    return tmp_path / "images"


def test_images_and_json_are_written(trained, coco, tmp_path, capsys):
    files = [str(path) for path in find_images([str(coco)])]
    assert len(files) == 4
    words = [str(trained["nearest"]), *files[:2], files[2], "--out", str(tmp_path / "out"), "--score-threshold", "0.0"]
    assert main.main(["predict", *words]) == 0
    results = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert [image["file_name"] for image in results["images"]] == files[:3]
    assert {"image_id", "category_id", "bbox", "score"} <= set(results["annotations"][0])
    assert results["skipped"] == []
    drawn = sorted((tmp_path / "out").glob("*.png"))
    assert [Image.open(path).size for path in drawn] == [(64, 64)] * 3
    assert "3 images" in capsys.readouterr().out


def test_a_broken_image_stops_and_says_how_to_go_on(trained, folder, tmp_path, capsys):
    assert main.main(["predict", str(trained["nearest"]), str(folder), "--out", str(tmp_path / "out")]) == 1
    printed = capsys.readouterr().err
    assert "broken.png" in printed
    assert "--skip-broken skips unreadable images" in printed


def test_a_broken_image_is_listed(trained, folder, tmp_path):
    words = [str(trained["nearest"]), str(folder), "--out", str(tmp_path / "out"), "--skip-broken"]
    assert main.main(["predict", *words]) == 0
    results = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert len(results["images"]) == 4
    (skipped,) = results["skipped"]
    assert skipped["file"].endswith("broken.png")
    assert skipped["reason"]


def test_no_image(trained, tmp_path, capsys):
    for path, message in ((tmp_path / "nowhere", "does not exist"), (tmp_path, "contains no image")):
        assert main.main(["predict", str(trained["nearest"]), str(path)]) == 1
        assert message in capsys.readouterr().err


@pytest.mark.parametrize("threshold", ["5", "-0.1"])
def test_a_threshold_outside_the_scores_is_refused(tmp_path, capsys, threshold):
    out = str(tmp_path / "out")
    assert main.main(["predict", "nowhere", "a.png", f"--score-threshold={threshold}", "--out", out]) == 1
    assert "scores are between 0 and 1" in capsys.readouterr().err


def test_a_second_prediction_reads_no_drawings_and_leaves_no_old_ones(trained, coco, tmp_path, capsys):
    folder = tmp_path / "images"
    shutil.copytree(coco / "val", folder)
    words = ["predict", str(trained["nearest"]), str(folder), "--out", str(folder / "out"), "--score-threshold", "0"]
    assert main.main(words) == 0
    first = sorted(path.name for path in (folder / "out").iterdir())
    removed = sorted(folder.glob("*.png"))[0]
    removed.unlink()
    with pytest.warns(UserWarning, match="images that 'featlift predict' has written are skipped"):
        assert main.main(words) == 0
    assert "1 images" in capsys.readouterr().out
    assert sorted(path.name for path in (folder / "out").iterdir()) == sorted({*first} - {removed.name})


def test_drawings_do_not_overwrite_the_images(trained, coco, capsys):
    before = {path: path.read_bytes() for path in (coco / "val").iterdir()}
    assert main.main(["predict", str(trained["nearest"]), str(coco / "val"), "--out", str(coco / "val")]) == 1
    assert "choose another" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in (coco / "val").iterdir()} == before


def test_names_that_are_not_utf_8(trained, coco, tmp_path, capsys):
    folder = tmp_path / "images"
    folder.mkdir()
    name = os.fsencode(folder) + b"/caf\xe9.png"
    try:
        shutil.copy(next((coco / "val").glob("*.png")), name)
    except OSError:
        pytest.skip("this file system has no such names")
    assert (
        main.main(["predict", str(trained["nearest"]), str(folder), "--out", str(tmp_path / "out"), "--save-txt"]) == 0
    )
    content = json.loads((tmp_path / "out/predictions.json").read_text())
    assert os.fsencode(content["images"][0]["file_name"]) == name
    assert os.path.exists(os.fsencode(tmp_path / "out") + b"/caf\xe9.png")
    assert os.path.exists(os.fsencode(tmp_path / "out") + b"/labels/caf\xe9.txt")


def test_hidden_files_are_skipped_with_a_line(trained, coco, tmp_path, capsys):
    shutil.copytree(coco / "val", tmp_path / "images")
    (tmp_path / "images/._1.jpg").write_bytes(b"Mac OS X")
    words = ["predict", str(trained["nearest"]), str(tmp_path / "images"), "--out", str(tmp_path / "out")]
    with pytest.warns(UserWarning, match=r"1 hidden files are skipped: \._1\.jpg"):
        assert main.main(words) == 0
    assert "2 images" in capsys.readouterr().out
