import base64

import matplotlib.image
import pytest

from featlift.report.pareto import _build_figure, _distance, pareto_data_uri, pareto_front, plot_pareto

POINTS = {"cheap": (1.0, [40.0, 42.0]), "worse": (2.0, [39.0, 41.0]), "good": (3.0, [44.0]), "dear": (9.0, [44.0])}


def test_pareto_front():
    """Hand: "worse" costs more and is lower than "cheap"; "dear" is as good as "good" at three times the cost."""
    assert pareto_front(POINTS) == ["cheap", "good"]


def test_of_two_that_cost_the_same_the_better_counts():
    assert pareto_front({"a": (1.0, [1.0]), "b": (1.0, [2.0])}) == ["b"]


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_a_figure_is_written_atomically(tmp_path, ending):
    path = plot_pareto(tmp_path / "made" / f"p.{ending}", POINTS, "ms", "AP")
    assert [file.name for file in path.parent.iterdir()] == [f"p.{ending}"]
    if ending == "png":
        assert matplotlib.image.imread(path).std() > 0.01
    else:
        assert all(f"<!-- {word} -->" in path.read_text() for word in [*POINTS, "ms", "AP"])


def test_the_same_figure_inside_a_page():
    kind, _, content = pareto_data_uri(POINTS, "ms", "AP").partition(",")
    assert kind == "data:image/svg+xml;base64"
    assert all(f"<!-- {word} -->" in base64.b64decode(content).decode() for word in [*POINTS, "ms", "AP"])


def test_names_of_close_dots_do_not_cover_each_other():
    """Five dots within a hundredth of the axis: no two labels overlap."""
    points = {f"a long name {i}": (10 + 0.02 * i, [40 + 0.01 * i]) for i in range(5)} | {"far": (20.0, [44.0])}
    figure = _build_figure(points, "ms", "AP")
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert len(boxes) == 6
    assert not any(box.count_overlaps(boxes[:i]) for i, box in enumerate(boxes))


def test_a_label_is_nearest_to_its_own_dot():
    """A cluster like that of interpolators with nearly equal cost; labels far from their dot have a leader line."""
    points = {
        "nearest:plain": (42.5, [37.9]),
        "bilinear:plain": (43.1, [38.0]),
        "dysample:plain": (43.7, [38.4]),
        "light": (44.2, [37.8]),
    }
    panel = _build_figure(points | {"afi": (60.0, [38.0])}, "ms", "AP").axes[0]
    dots = {name: panel.transData.transform((cost, values[0])) for name, (cost, values) in points.items()}
    for text in (text for text in panel.texts if text.get_text() in dots):
        distances = {name: _distance(text.get_window_extent(), dot) for name, dot in dots.items()}
        assert min(distances, key=distances.get) == text.get_text()


@pytest.mark.parametrize(("seeds", "number"), [(1, 2), (3, 3)])
def test_the_legend_explains_the_colors(seeds, number):
    (legend,) = _build_figure({"a": (1.0, [1.0] * seeds), "b": (2.0, [0.5] * seeds)}, "ms", "AP").legends
    assert [text.get_text() for text in legend.get_texts()] == ["Pareto front", "dominated", "one seed"][:number]


def test_costs_far_apart_stand_on_a_logarithmic_axis():
    assert _build_figure(POINTS, "ms", "AP").axes[0].get_xscale() == "linear"
    assert _build_figure({**POINTS, "dearest": (10.0, [50.0])}, "ms", "AP").axes[0].get_xscale() == "log"
