from pathlib import Path

import pytest

from featlift.report import printed as module
from featlift.report.printed import list_papers, load_paper_table

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


def test_a_wheel_has_the_tables_in_its_own_folder(tmp_path, monkeypatch):
    """The layout of the wheel, built by hand, without a checkout around it."""
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    ((source, target),) = build["force-include"].items()
    installed = tmp_path / target
    installed.parent.mkdir(parents=True)
    installed.symlink_to(ROOT / source)
    monkeypatch.setattr(module, "files", lambda package: tmp_path.joinpath(*package.split(".")))
    monkeypatch.setattr(module, "__file__", str(tmp_path / "featlift" / "report" / "printed.py"))
    assert load_paper_table("afi-gan", "9").rows[0]["variant"] == "B1"
    installed.unlink()
    with pytest.raises(FileNotFoundError, match="reinstall featlift"):
        list_papers()
