import base64

import matplotlib.image
import pytest

from featlift.report.pareto import front, inline, pareto

POINTS = {"cheap": (1.0, [40.0, 42.0]), "worse": (2.0, [39.0, 41.0]), "good": (3.0, [44.0]), "dear": (9.0, [44.0])}


def test_who_is_beaten_by_nobody():
    """Hand: "worse" is dearer and lower than "cheap"; "dear" gives what "good" does for three times as much."""
    assert front(POINTS) == ["cheap", "good"]


def test_of_two_that_cost_the_same_the_better_counts():
    assert front({"a": (1.0, [1.0]), "b": (1.0, [2.0])}) == ["b"]


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_a_picture_is_written_whole(tmp_path, ending):
    path = pareto(tmp_path / "made" / f"p.{ending}", POINTS, "ms", "AP")
    assert [file.name for file in path.parent.iterdir()] == [f"p.{ending}"]
    if ending == "png":
        assert matplotlib.image.imread(path).std() > 0.01
    else:
        assert all(f"<!-- {word} -->" in path.read_text() for word in [*POINTS, "ms", "AP"])


def test_the_same_picture_inside_a_page():
    kind, _, content = inline(POINTS, "ms", "AP").partition(",")
    assert kind == "data:image/svg+xml;base64"
    assert all(f"<!-- {word} -->" in base64.b64decode(content).decode() for word in [*POINTS, "ms", "AP"])
