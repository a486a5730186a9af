"""Commands and values of the rows of EFPN, FDSR and FSR-GAN."""

import json

import pytest
from paper_rows import find_recipe, read_records, row_value
from paper_tables import load_paper_table, main

from featlift.cli import parser
from featlift.report.records import RunRecord

TABLES = [("efpn", n) for n in ("2", "3", "4", "6", "7", "8", "9", "lambda")] + [
    ("fdsr", "1"), ("fdsr", "2"), ("fdsr", "figure3"), ("fsr-gan", "1"), ("fsr-gan", "text"),
]  # fmt: skip


@pytest.mark.parametrize(("paper", "number"), TABLES)
def test_the_commands_of_a_table_are_understood(paper, number):
    table = load_paper_table(paper, number)
    recipes = [recipe for row in table.rows if (recipe := find_recipe(paper, row, table.split))]
    assert recipes
    for recipe in recipes:
        assert parser.parse_training_args(recipe.paper, recipe.argv)["settings"] is not None


@pytest.mark.parametrize(("paper", "number"), [("efpn", "1"), ("efpn", "5"), ("fdsr", "3"), ("fsr-gan", "2")])
def test_layers_and_other_protocols_have_no_command(paper, number):
    assert not [row for row in load_paper_table(paper, number).rows if find_recipe(paper, row)]


def settings_of(number):
    rows = load_paper_table("efpn", number).rows
    recipes = [find_recipe("efpn", row) for row in rows]
    return [(r.paper, parser.parse_training_args(r.paper, r.argv)["settings"]) for r in recipes]


def test_the_components_of_efpn():
    """Table II: FPN, an untrained extension, the distillation with ESPCN, and FTT."""
    (fpn, _), *others = settings_of("2")
    assert fpn == "baseline"
    found = [(s.extended_level.transfer, s.extension.steps > 0) for _, s in others]
    assert found == [("espcn", False), ("espcn", True), ("ftt-paper", True)]


def test_the_losses_of_the_distillation():
    """Table IV: none, p2x alone, with the balanced term, and on FTT's output too."""
    found = [
        (s.distillation.levels, s.distillation.foreground_weight, s.extension.steps > 0) for _, s in settings_of("4")
    ]
    both = ("p3x", "p2x")
    assert found == [(both, 1.0, False), (("p2x",), 0.0, True), (("p2x",), 1.0, True), (both, 1.0, True)]


def test_the_tables_on_coco_have_its_settings():
    table = load_paper_table("efpn", "9")
    recipes = [find_recipe("efpn", row, table.split) for row in table.rows]
    settings = [parser.parse_training_args(r.paper, r.argv)["settings"] for r in recipes]
    assert [(r.paper, s.model.backbone, max(s.data.min_size)) for r, s in zip(recipes, settings, strict=True)] == [
        ("baseline", "resnet50", 800), ("efpn", "resnet50", 800),
        ("baseline", "resnext101_32x8d", 800), ("efpn", "resnext101_32x8d", 800),
    ]  # fmt: skip
    assert settings[1].extended_level.small_roi_size == 112


def test_values_of_tt100k_are_those_of_its_evaluation(tmp_path):
    (tmp_path / "result.json").write_text(json.dumps({"result": {"name": "efpn", "metrics": {"boxes": {"ap": 0.2}}}}))
    sizes = {"small": {"accuracy": 0.8, "recall": 0.6, "f1": 0.7}, "all": {"accuracy": 0.9, "recall": 0.5, "f1": 0.6}}
    content = {
        "metrics": {"boxes": {"ap": 0.2}},
        "tt100k": {"sizes": sizes, "coco_iou50": {"ap50": 0.4, "ar50_small": 0.3}},
    }
    (tmp_path / "evaluation-own-val.json").write_text(json.dumps(content))
    (tmp_path / "evaluation-own-val-results.json").write_text("[]")
    plain, tt100k = read_records(tmp_path)
    columns = ("small_acc", "small_rec", "small_f1", "f1_small", "overall_acc", "mAP", "ARS", "medium_f1")
    values = [row_value({}, column, tt100k) for column in columns]
    assert values == pytest.approx([80, 60, 70, 70, 90, 40, 30, None])
    assert row_value({}, "mAP", plain) == 20


def test_values_of_fdsr_are_those_of_the_row_s_pipeline():
    pipelines = {
        "bicubic": {"metrics": {"ap": 0.1}, "quality": {"psnr_y": 25.0, "fsim": 0.9}},
        "fdsr": {"metrics": {"ap": 0.3, "ap_small": 0.05}, "quality": {"psnr_y": 27.0, "fsim": 0.95}},
        "original": {"metrics": {"ap": 0.5}},
    }
    record = RunRecord("fdsr", metadata={"result": {"pipelines": pipelines}})
    value = lambda method, column: row_value({"method": method}, column, record)  # noqa: E731
    assert (value("origin", "AP"), value("bicubic", "AP"), value("FDSR", "AP"), value("FDSR", "APS")) == (50, 10, 30, 5)
    assert (value("bicubic", "PSNR"), value("FDSR", "FSIM"), value("origin", "PSNR")) == (25.0, 0.95, None)
    row = {"detector": "RetinaNet", "backbone": "R50-FPN"}
    assert [row_value(row, column, record) for column in ("HR", "bicubic", "FDSR", "D-DBPN")] == [50, 10, 30, None]


def test_values_of_fsr_gan_are_distances_of_the_held_out_images():
    curves = {"raw": {"2.0": [0.1, 0.01], "8.0": [0.7, 0.03]}, "fsr-gan": {"2.0": [0.1, 0.0], "8.0": [0.6, 0.0]}}
    record = RunRecord("fsr-gan", metadata={"result": {"held_out_distance": curves}})
    rows = load_paper_table("fsr-gan", "1").rows
    assert [row_value(row, "variance", record) for row in (rows[0], rows[6], rows[7])] == pytest.approx(
        [0.01, 0.03, 0.02]
    )
    assert row_value(load_paper_table("fsr-gan", "text").rows[0], "value", record) == 0.6


def test_another_detector_s_row_is_an_evaluation_of_the_run(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(["fdsr", "2"])
    printed = capsys.readouterr().out
    run = "runs/fdsr-2-2"
    assert f"featlift train fdsr --preset paper --run {run}" in printed
    assert f"featlift evaluate retinanet_resnet50_fpn --super-resolvers.fdsr {run}" in printed
