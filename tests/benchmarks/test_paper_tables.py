import json
import shutil
from pathlib import Path

import pytest
from paper_commands import MULTI_SCALE, TrainingRecipe, build_recipe
from paper_rows import read_records
from paper_tables import (
    comparable_settings,
    count_recipe_parameters,
    find_finished_runs,
    flatten_settings,
    group_runs,
    list_papers,
    load_paper_table,
    main,
    print_table,
    settings_differences,
)

from featlift.cli.main import main as featlift
from featlift.report.records import RunRecord, read_run

tomllib = pytest.importorskip("tomllib")
ROOT = Path(__file__).parents[2]


def test_the_papers_of_the_checkout_are_there():
    assert list_papers() == sorted(
        path.stem.replace("_", "-") for path in (ROOT / "benchmarks" / "papers").glob("*.toml")
    )
    assert {"afi-gan", "srf-gan", "fdsr"} <= set(list_papers())


def test_a_row_as_the_paper_prints_it():
    """AFI-GAN, Table 4: "A5 … 41.2 61.4 45.4 37.0 58.3 40.0"."""
    table = load_paper_table("afi-gan", "4")
    row = next(row for row in table.rows if row["name"] == "A5")
    assert [row[c] for c in ("AP_box", "AP50_box", "AP75_box", "AP_mask", "AP50_mask", "AP75_mask")] == [
        41.2, 61.4, 45.4, 37.0, 58.3, 40.0,
    ]  # fmt: skip
    assert table.split == "val2017"
    assert "Pattern Recognition 2023" in table.source


@pytest.mark.parametrize("paper", list_papers())
def test_every_table_can_be_read(paper):
    numbers = tomllib.loads((ROOT / "benchmarks" / "papers" / f"{paper.replace('-', '_')}.toml").read_text())["table"]
    for number in numbers:
        table = load_paper_table(paper, number)
        assert table.rows
        assert all(tuple(row) == table.columns for row in table.rows)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("afi-gna", "4"), "Did you mean 'afi-gan'"),
        (("afi-gan", "2"), "has no table '2'; choose one of 1, 3, 4, 5, 6, 7, 8, 9. Table 2 is missing"),
    ],
)
def test_unknown_papers_and_tables(arguments, message):
    with pytest.raises(ValueError, match=message):
        load_paper_table(*arguments)


def record(name="baseline", ap=0.25, **settings):
    return RunRecord(name, {"boxes": {"ap": ap, "ap_small": None}}, settings=settings)


def test_a_run_stands_below_its_row(trained, capsys):
    main(["afi-gan", "6", str(trained["nearest"]), str(trained["bilinear"])])
    lines = capsys.readouterr().out.splitlines()
    ap = read_run(trained["bilinear"]).metrics["boxes"]["ap"]
    place = next(i for i, line in enumerate(lines) if line.strip().startswith("BL "))
    assert lines[place + 1].split()[:3] == ["FeatLift", "[1]", f"{100 * ap:.1f}"]
    assert sum("FeatLift [" in line for line in lines) == 2
    printed = next(line for line in lines if line.startswith("[1] differs from the paper: "))
    for part in (
        "data.root: COCO → /",
        "model.detector: mask-rcnn → faster-rcnn",
        "model.pyramid_channels: 256 → 8",
        "train.steps: 90000 → 1",
    ):
        assert part in printed
    assert "model.interpolator" not in printed


def test_runs_are_found_where_they_lie(trained, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained["nearest"], tmp_path / "runs" / "deep" / "one")
    assert find_finished_runs(tmp_path / "runs") == [str(tmp_path / "runs" / "deep" / "one")]
    print_table("afi-gan", "4")
    assert "FeatLift [1]" in capsys.readouterr().out


def test_without_runs_the_commands_are_printed(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(["afi-gan", "9"])
    printed = capsys.readouterr().out
    assert (
        "featlift train afi-gan --preset paper --reuse M --model.pyramid fpn-no-lateral --run runs/afi-gan-9-1"
        in printed
    )
    assert "36.9" in printed
    assert not list(tmp_path.iterdir())


def test_a_table_without_recipes_is_printed(capsys):
    print_table("efpn", "1", runs_folder="nowhere")
    printed = capsys.readouterr().out
    assert "400x400" in printed
    assert "cannot be compared with runs" in printed


def test_an_unknown_table(capsys):
    with pytest.raises(SystemExit):
        main(["afi-gan", "2"])
    assert "choose one of 1, 3, 4" in capsys.readouterr().err


def test_seeds_are_one_line_with_their_spread():
    made = TrainingRecipe("baseline", {"model.interpolator": "nearest"})
    runs = [record(ap=ap, model={"interpolator": "nearest"}, seed=i) for i, ap in enumerate((0.24, 0.25, 0.26))]
    other = [record(model={"interpolator": "bilinear"}), record("afi-gan", model={"interpolator": "nearest"})]
    (group,) = group_runs(made, ("model.interpolator",), [*runs, *other])
    assert len(group.runs) == 3
    assert group.format_value("AP_box") == "25.0 ±1.0"
    assert group.format_value("APs_box") == group.format_value("AP_mask") == ""


def test_a_stage_alone_is_not_the_whole_chain():
    whole, third = TrainingRecipe("afi-gan", {"reuse": "M"}), TrainingRecipe("afi-gan", {"stop_after": "extractor"})
    runs = [record("afi-gan", reuse="M"), record("afi-gan, extractor", reuse="G_from_M")]
    assert [len(group_runs(made, ("reuse", "stop_after"), runs)) for made in (whole, third)] == [1, 1]
    assert group_runs(third, ("stop_after",), runs)[0].runs == (runs[1],)


def test_a_multi_scale_row_has_only_multi_scale_results(trained, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(trained["nearest"], folder)
    assert len(read_records(folder)) == 1
    metrics = {"boxes": {"ap": 0.5}}
    (folder / "evaluation-COCO-val-multi-scale.json").write_text(json.dumps({"metrics": metrics}))
    records = read_records(folder)
    options = {"model.interpolator": "nearest"}
    single, multiple = (TrainingRecipe("baseline", options, inference=several) for several in ("", MULTI_SCALE))
    for recipe, record in zip((single, multiple), records, strict=True):
        (group,) = group_runs(recipe, tuple(options), records)
        assert group.runs == (record,)
    assert records[1].metrics == metrics


def test_only_comparable_settings_are_differences():
    sizes = {"num_scenes": 8, "num_val_scenes": 4, "scene_size": 64}
    scenes = {"data": {"root": "scenes", **sizes, "batch_size": 2}}
    flat_sizes = {f"data.{name}": value for name, value in sizes.items()}
    assert comparable_settings(scenes, "scenes") == {"data.root": "scenes", **flat_sizes, "data.batch_size": 2}
    assert comparable_settings(scenes, "COCO") == {"data.root": "COCO", "data.batch_size": 2}
    expected, actual = {"a": 1, "seed": 0, "gone": 2}, {"a": 3, "seed": 5, "gone": 2, "new": 4}
    assert settings_differences(expected, actual) == ("a: 1 → 3", "new: – → 4")
    assert flatten_settings({"model": {"x": 1, "x_options": {"y": 2}}, "z": 3}) == {
        "model.x": 1,
        "model.x_options": {"y": 2},
        "z": 3,
    }


@pytest.mark.parametrize(("number", "name", "millions"), [("6", "Deconv", 53), ("6", "NN", 44), ("4", "A5", 52)])
def test_parameters_are_counted_now(number, name, millions):
    whole = load_paper_table("afi-gan", number)
    row = next(row for row in whole.rows if name in (row.get("name"), row.get("variant")))
    assert count_recipe_parameters(build_recipe(whole.paper, row)) // 10**6 == millions
    assert row.get("params_M", millions) == millions


def test_the_extractor_of_a_chain_is_measured(coco, tmp_path):
    """A3: the detector of stage 2, in a chain without discriminator, one step per stage."""
    words = [
        "--preset",
        "quick",
        "--run",
        str(tmp_path / "run"),
        "--data",
        str(coco),
        "--data.batch_size",
        "2",
        "--device",
        "cpu",
    ]
    words += ["--model.pyramid_channels", "8", "--adversarial.weight", "0", "--stop_after", "extractor"]
    words += ["--model.interpolator_options", '{"growth_rate": 4, "num_blocks": 1}']
    words += ["--model.detector_options", '{"anchor_scale": 4.0, "fc_dim": 16, "num_proposals": 20}']
    words += [f"--{stage}.steps=1" for stage in ("teacher", "interpolator", "extractor", "target")]
    assert featlift(["train", "afi-gan", *words]) == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["result"]["name"] == "afi-gan, extractor"
    assert set(result["stages"]) == {"teacher", "interpolator", "extractor"}
    assert "target" not in result["stages"]
