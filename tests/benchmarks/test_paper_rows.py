"""Commands and values of the rows of EFPN, FDSR and FSR-GAN."""

import json
from pathlib import Path

import pytest
from paper_rows import find_recipe, read_records, row_value
from paper_tables import inference_variant, load_paper_table, main

from featlift.checkpoints.json_io import to_jsonable
from featlift.cli import parser
from featlift.cli.option_table import load_option_table
from featlift.commands.evaluate import evaluate
from featlift.report.records import RunRecord
from featlift.runs.options import InferenceOptions

TABLES = [("efpn", n) for n in ("2", "3", "4", "5", "6", "7", "8", "9", "lambda")] + [
    ("fdsr", "1"), ("fdsr", "2"), ("fdsr", "3"), ("fdsr", "figure3"), ("fsr-gan", "1"), ("fsr-gan", "text"),
]  # fmt: skip


@pytest.mark.parametrize(("paper", "number"), TABLES)
def test_the_commands_of_a_table_are_understood(paper, number):
    table = load_paper_table(paper, number)
    recipes = [recipe for row in table.rows if (recipe := find_recipe(paper, row, table.split))]
    assert recipes
    for recipe in recipes:
        assert parser.parse_training_args(recipe.paper, recipe.argv)["settings"] is not None


@pytest.mark.parametrize(("paper", "number"), [("efpn", "1"), ("fsr-gan", "2")])
def test_layers_have_no_command(paper, number):
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


def inference_of(recipe):
    words = recipe.evaluation("RUN").split()[2:]
    return parser.parse_function_args(evaluate, load_option_table("evaluate"), words)["inference"]


def test_larger_images_and_the_upper_bound():
    """Table III: FPN on images of twice the size, and with P2 of them for small RoIs, are evaluations of one training."""
    plain, double, upper, *_ = (find_recipe("efpn", row) for row in load_paper_table("efpn", "3").rows)
    assert plain.command == double.command == upper.command
    assert plain.evaluation("RUN") == ""
    assert inference_of(double).scales == (2.0,)
    assert inference_of(upper).double_size_level == 56
    assert len({inference_variant(recipe) for recipe in (plain, double, upper)}) == 3


def test_detection_on_one_map_of_ftt():
    """Table V: input, target and output are evaluations of one EFPN."""
    recipes = [find_recipe("efpn", row) for row in load_paper_table("efpn", "5").rows]
    assert {(r.paper, r.command) for r in recipes} == {("efpn", recipes[0].command)}
    options = [inference_of(recipe) for recipe in recipes]
    assert [(o.level, o.scales) for o in options] == [("p3", (1.0,)), ("p3", (2.0,)), ("p3x", (1.0,))]
    assert [o.variant for o in options] == ["p3", "p3-multi-scale", "p3x"]


def test_a_result_stands_in_the_row_of_its_evaluation(tmp_path):
    """The kind of inference is read from the options in the file, whatever its name."""
    (tmp_path / "result.json").write_text(json.dumps({"result": {"name": "efpn", "metrics": {}}}))
    for name, options in (("evaluation-a", {"level": "p3x"}), ("evaluation-b", {"double_size_level": 56.0})):
        content = {"metrics": {"boxes": {"ap": 0.1}}, "inference": to_jsonable(InferenceOptions(**options))}
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    assert [record.metadata.get("variant", "") for record in read_records(tmp_path)] == ["", "p3x", "double-size-level"]


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
    pipelines = {name: {"metrics": {"ap": 0.1}, "voc": {"VOC2007": {"mAP": mAP}}} for name, mAP in
                 (("bicubic", 0.4), ("fdsr", 0.6), ("original", 0.7))}  # fmt: skip
    record = RunRecord("fdsr", metadata={"result": {"pipelines": pipelines}})
    methods = ("HR original", "bicubic", "FDSR")
    assert [row_value({"method": m, "mAP": 1}, "mAP", record) for m in methods] == pytest.approx([70, 40, 60])


def test_values_of_fsr_gan_are_distances_of_the_held_out_images():
    curves = {"raw": {"2.0": [0.1, 0.01], "8.0": [0.7, 0.03]}, "fsr-gan": {"2.0": [0.1, 0.0], "8.0": [0.6, 0.0]}}
    record = RunRecord("fsr-gan", metadata={"result": {"held_out_distance": curves}})
    rows = load_paper_table("fsr-gan", "1").rows
    assert [row_value(row, "variance", record) for row in (rows[0], rows[6], rows[7])] == pytest.approx(
        [0.01, 0.03, 0.02]
    )
    assert row_value(load_paper_table("fsr-gan", "text").rows[0], "value", record) == 0.6


def test_detectors_that_torchvision_lacks_are_trained(tmp_path, capsys, monkeypatch):
    """Table 2: Faster R-CNN on a ResNet-101 and Cascade R-CNN, with the commands that train them."""
    monkeypatch.chdir(tmp_path)
    recipes = [find_recipe("fdsr", row) for row in load_paper_table("fdsr", "2").rows]
    assert [Path(r.detector).name for r in recipes] == [
        "faster-rcnn-resnet101", "retinanet_resnet50_fpn", "cascade-rcnn-resnet50",
    ]  # fmt: skip
    trainings = [r.preparation.split()[3:] for r in recipes if r.preparation]
    models = [parser.parse_training_args("baseline", words)["settings"].model for words in trainings]
    assert [(m.detector, m.backbone) for m in models] == [("faster-rcnn", "resnet101"), ("cascade-rcnn", "resnet50")]
    main(["fdsr", "2"])
    printed = capsys.readouterr().out
    assert "--run runs/cascade-rcnn-resnet50" in printed
    assert "featlift evaluate runs/cascade-rcnn-resnet50 --super-resolvers.fdsr runs/fdsr-2-1" in printed


def test_voc_is_evaluated_by_an_ssd300():
    """Table 3: HR, bicubic and D-DBPN are pipelines of one network; TDSR has the detection losses instead of the features."""
    recipes = [find_recipe("fdsr", row) for row in load_paper_table("fdsr", "3").rows]
    weights = [parser.parse_training_args("fdsr", r.argv)["settings"].loss_weights for r in recipes]
    assert [(w.features, w.detection) for w in weights] == [(0, 0)] * 3 + [(0, 0.05), (1, 0)]
    assert {r.detector for r in recipes} == {"ssd300_vgg16"}
    assert "--data VOC2007 --split test --image-size 300x300 --out RUN/ssd300_vgg16" in recipes[0].evaluation("RUN")


def test_another_detector_s_row_is_an_evaluation_of_the_run(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(["fdsr", "2"])
    printed = capsys.readouterr().out
    run = "runs/fdsr-2-1"
    assert f"featlift train fdsr --preset paper --run {run}" in printed
    assert f"featlift evaluate retinanet_resnet50_fpn --super-resolvers.fdsr {run}" in printed
