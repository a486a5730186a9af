"""Figs. 1b and 5 of EFPN from run folders."""

import json

from efpn_curves import main

from featlift.report.records import read_run


def test_curves_of_a_run(trained, tmp_path, capsys):
    main([str(trained["nearest"]), "--scales", "1", "2", "--out", str(tmp_path), "--device", "cpu"])
    printed = capsys.readouterr().out.splitlines()
    assert printed[-2:] == [str(tmp_path / "by_size.png"), str(tmp_path / "by_scale.png")]
    assert (tmp_path / "by_size.png").is_file()
    (result,) = json.loads((tmp_path / "curves.json").read_text()).values()
    assert list(result["by_scale"]) == ["1.0", "2.0"]
    assert result["by_scale"]["1.0"]["ap"] == read_run(trained["nearest"]).metrics["boxes"]["ap"]
    assert all(size["num_objects"] and size["ar"] >= 0 for size in result["by_size"])
