"""The figure of the design page shows the imports of today."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("draw_architecture", ROOT / "docs" / "draw_architecture.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_figure_is_up_to_date(script):
    drawn = set(re.findall(r'data-edge="(\w+) (\w+)"', script.FIGURE.read_text()))
    assert drawn == script.reduce_edges(script.read_imports()), "run python docs/draw_architecture.py"


def test_every_package_has_a_box_and_a_purpose(script):
    boxes = set(re.findall(r'class="name">(\w+)<', script.FIGURE.read_text()))
    assert boxes == {name for floor in script.read_floors() for name in floor} == {*script.PURPOSES}


def test_the_design_page_lists_every_package_on_its_floor(script):
    rows = re.findall(r"^\| (\d+) \| (`.*?) \|", (ROOT / "docs" / "design.md").read_text(), re.MULTILINE)
    listed = [(int(floor), name) for floor, cell in rows for name in re.findall(r"`(\w+)`", cell)]
    floors = list(reversed(script.read_floors()))
    expected = {(i, name) for i, floor in enumerate(floors, 2) for name in floor}
    assert {*listed} == expected | {(1, name) for name in script.FOUNDATION} | {
        (len(floors) + 1, name) for name in script.FRONT
    }


def test_arrows_point_down(script):
    floors = script.read_floors()
    floor_of = {name: i for i, floor in enumerate(floors) for name in floor}
    assert all(floor_of[a] <= floor_of[b] for a, b in script.read_imports())


def test_implied_arrows_are_left_out(script):
    assert script.reduce_edges({("a", "b"), ("b", "c"), ("a", "c"), ("d", "c")}) == {("a", "b"), ("b", "c"), ("d", "c")}


def test_arrows_pass_floors_and_packages_do_not_overlap(script):
    columns, paths = script.build_columns([{"a"}, {"b"}, {"c", "d"}], {("a", "b"), ("b", "c"), ("a", "d"), ("c", "d")})
    assert ["a", ("a", "d", 1), "d"] in paths
    assert columns[2] == ["c", "d"]
    x = script.place_nodes(columns, paths)
    assert x["d"] - x["c"] >= script.BOX_WIDTH
