import pytest
from paper_commands import build_recipe, identifying_options
from paper_tables import load_paper_table

from featlift.cli import parser
from featlift.cli.option_table import load_option_table
from featlift.commands.evaluate import evaluate
from featlift.papers import afi_gan

TABLES = [("afi-gan", str(i)) for i in (1, 3, 4, 5, 6, 7, 8, 9)] + [("srf-gan", str(i)) for i in range(1, 8)]


def recipes_of(paper, number):
    table = load_paper_table(paper, number)
    return {i: found for i, row in enumerate(table.rows) if (found := build_recipe(table.paper, row))}


def settings(found):
    return parser.parse_training_args(found.paper, found.argv)


@pytest.mark.parametrize(
    ("paper", "number"), [table for table in TABLES if table[1] != "1" and table != ("srf-gan", "2")]
)
def test_every_row_of_an_ablation_has_a_command_of_its_own(paper, number):
    recipes = recipes_of(paper, number)
    assert len(recipes) == len(load_paper_table(paper, number).rows)
    assert len({found.command for found in recipes.values()}) == len(recipes)


@pytest.mark.parametrize(
    ("name", "attributes"),
    [
        ("A2", {"reuse": "G", "freeze_interpolator": False}),
        ("A3", {}),
        ("A4", {"reuse": "M", "freeze_interpolator": True}),
        ("A5", {"reuse": "M", "freeze_interpolator": False}),
        ("A6", {"reuse": "none"}),
    ],
)
def test_progressive_learning(name, attributes):
    """AFI-GAN, Table 4 and the paragraph about A1 … A6."""
    table = load_paper_table("afi-gan", "4")
    found = settings(build_recipe(table.paper, next(row for row in table.rows if row["name"] == name)))
    assert found["run_options"].stop_after == ("extractor" if name == "A3" else "target")
    assert {key: getattr(found["settings"], key) for key in attributes} == attributes
    assert found["settings"].interpolator == afi_gan.Settings().interpolator


def test_the_baseline_has_no_stages():
    first = recipes_of("afi-gan", "4")[0]
    assert first.command == "featlift train baseline --preset paper --model.interpolator nearest"


def test_heads_of_table_3():
    found = [settings(recipe)["settings"] for recipe in recipes_of("afi-gan", "3").values()]
    heads = [(s.model.detector, s.extractor_detector) for s in found if hasattr(s, "extractor_detector")]
    names = ("mask-rcnn", "retinanet", "centermask")
    assert heads == [(target, head) for target in names for head in names]
    rates = {
        s.extractor_detector: (s.teacher.optimizer.lr, s.extractor.optimizer.lr) for s in found if hasattr(s, "teacher")
    }
    assert rates == {"mask-rcnn": (0.02, 0.02), "retinanet": (0.01, 0.01), "centermask": (0.01, 0.01)}
    dense = [s for s in found if s.model.detector != "mask-rcnn"]
    assert {getattr(s, "target", getattr(s, "train", None)).optimizer.lr for s in dense} == {0.01}


def test_backbones_and_pyramids_of_table_1():
    recipes = recipes_of("afi-gan", "1")
    rows = {load_paper_table("afi-gan", "1").rows[i]["row"]: found for i, found in recipes.items()}
    assert not {1, 13} & set(rows)  # third-party detectors
    swin = settings(rows[38])["settings"]
    assert (swin.model.backbone, swin.model.pyramid) == ("swin_tiny_patch4_window7_224", "bifpn-7")
    assert (swin.target.optimizer.name, swin.target.optimizer.lr, swin.target.steps) == ("adamw", 1e-4, 270_000)
    assert settings(rows[36])["settings"].model.pyramid == "pafpn"
    resnest = settings(rows[36])["settings"].model
    assert (resnest.backbone, resnest.norm, resnest.pyramid_norm) == ("resnest101e", "sync", "sync")
    assert resnest.detector_options == {"test_size": [800, 1333], "num_convs": 4, "norm": "sync"}


def test_multi_scale_rows_are_evaluated_at_several_scales():
    """AFI-GAN, Table 1: rows 35 and 37 are rows 34 and 36 with multi-scale testing."""
    recipes = recipes_of("afi-gan", "1")
    rows = {load_paper_table("afi-gan", "1").rows[i]["row"]: found for i, found in recipes.items()}
    assert [n for n, found in rows.items() if found.inference] == [35, 37, 40, 42]
    assert rows[34].command == rows[35].command
    words = rows[35].evaluation("RUN").split()
    arguments = parser.parse_function_args(evaluate, load_option_table("evaluate"), words[2:])
    assert arguments["inference"].scales == tuple(size / 800 for size in range(400, 1201, 100))
    assert arguments["inference"].flip
    assert rows[34].evaluation("RUN") == ""


def test_rows_of_self_training():
    """AFI-GAN, Table 1: five rows, of which 25 has nearest interpolation and 42 the headline 57.3."""
    recipes = recipes_of("afi-gan", "1")
    rows = {load_paper_table("afi-gan", "1").rows[i]["row"]: found for i, found in recipes.items()}
    marked = {
        n: settings(found)["settings"] for n, found in rows.items() if "self_training.labels_from" in found.options
    }
    assert list(marked) == [25, 39, 40, 41, 42]
    assert [(s.model.interpolator, s.reuse) for s in marked.values()] == [("nearest", "none")] + [("afi", "M")] * 4
    assert {s.model.backbone for s in list(marked.values())[3:]} == {"swin_large_patch4_window12_384"}
    assert {(s.self_training.score_threshold, s.self_training.fraction) for s in marked.values()} == {(0.5, 0.5)}
    assert len({rows[n].command for n in (38, 39, 41)}) == 3


def test_37_epochs_are_270_thousand_steps():
    table = load_paper_table("srf-gan", "1")
    long = settings(build_recipe(table.paper, table.rows[10]))["settings"].target
    assert (table.rows[10]["epochs"], long.steps) == (37, 270_000)
    lrs = [long.optimizer.lr_at(step, long.steps) for step in (209_990, 210_010, 250_010)]
    assert lrs == pytest.approx([0.02, 0.002, 0.0002])


def test_schedules_do_not_identify_rows():
    assert identifying_options(recipes_of("srf-gan", "1")) == (
        "model.detector", "model.backbone", "model.pyramid", "model.interpolator", "reuse",
    )  # fmt: skip


def test_tables_of_alternatives_are_only_printed():
    table = load_paper_table("light", "alternatives")
    assert not [row for row in table.rows if build_recipe(table.paper, row)]
