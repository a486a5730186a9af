"""``featlift upscale``: a folder of images is upscaled."""

from PIL import Image

from featlift.cli.main import main


def test_a_folder_is_upscaled_with_names_kept(tmp_path, capsys):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    Image.new("RGB", (10, 6), (200, 30, 30)).save(tmp_path / "in" / "a.png")
    Image.new("L", (7, 5), 90).save(tmp_path / "in" / "deep" / "b.jpg")
    out = tmp_path / "out"
    assert main(["upscale", str(tmp_path / "in"), "--out", str(out), "--scale", "2", "--precision", "fp32"]) == 0
    assert "2 images" in capsys.readouterr().out
    assert Image.open(out / "a.png").size == (20, 12)
    assert Image.open(out / "deep" / "b.jpg").size == (14, 10)


def test_a_name_without_weights_is_refused_in_a_sentence(tmp_path, capsys):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    assert main(["upscale", str(tmp_path / "a.png"), "--out", str(tmp_path / "out"), "--model", "edsr"]) == 1
    error = capsys.readouterr().err
    assert "edsr" in error
    assert "Traceback" not in error
