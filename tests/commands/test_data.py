import json

from featlift.cli import main


def test_what_was_made_is_found_in_order(coco, capsys):
    assert main.main(["data", "check", str(coco)]) == 0
    printed = capsys.readouterr().out
    assert printed.count("2 images") == 2
    assert "classes: " in printed
    assert "sizes: tiny " in printed


def test_what_is_wrong_is_said(coco, tmp_path, capsys):
    (tmp_path / "train").symlink_to(coco / "train")
    (tmp_path / "val").symlink_to(coco / "val")
    for split in ("train", "val"):
        truth = json.loads((coco / f"instances_{split}.json").read_text())
        truth["annotations"][0]["bbox"][2] = -3
        (tmp_path / f"instances_{split}.json").write_text(json.dumps(truth))
    assert main.main(["data", "check", str(tmp_path)]) == 1
    printed = capsys.readouterr()
    assert "instances_train.json" in printed.out
    assert f"'{tmp_path}' has 2 problems" in printed.err


def test_a_folder_with_something_in_it_is_kept(coco, capsys):
    assert main.main(["data", "generate", str(coco)]) == 1
    assert "is not empty" in capsys.readouterr().err
