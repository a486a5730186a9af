import numpy as np
import pytest
import torch
from PIL import Image

from featlift.report import ComparisonExamples, figure, plot_before_after
from featlift.report.curves import run_color
from featlift.report.examples import classify_detections


def pixels_of(path, color):
    """Mask of the pixels of an image file that have ``color``."""
    pixels = np.array(Image.open(path).convert("RGB")).astype(int)
    return (np.abs(pixels - [int(color[i : i + 2], 16) for i in (1, 3, 5)]) < 3).all(-1)


@pytest.mark.parametrize("ending", ["png", "svg"])
@pytest.mark.parametrize("crops", [0, 2])
def test_a_figure_for_a_readme(tmp_path, truth, runs, comparison, dataset, ending, crops):
    examples = ComparisonExamples(dataset, comparison, runs)
    zoom_boxes = [annotation["bbox"] for annotation in truth["annotations"] if annotation["image_id"] == 6][:crops]
    path = plot_before_after(
        tmp_path / f"a.{ending}", dataset.load_image(6), examples.image_boxes(6), ("nearest", "afi"), zoom_boxes
    )
    assert list(tmp_path.iterdir()) == [path]
    if ending == "svg":
        assert run_color(1) in path.read_text()
    else:
        mask = pixels_of(path, run_color(1))
        middle = len(mask) // 2
        assert mask[middle:].sum() > 100, "detections of the second run are mask in its color, below"
        assert mask[:middle].sum() < mask[middle:].sum() / 10


def test_found_missed_and_false_in_colors(tmp_path, truth, dataset):
    """The first detects one of two objects and has one false positive; the second has no detections."""
    first = next(annotation for annotation in truth["annotations"] if annotation["image_id"] == 6)
    detections = [
        {"image_id": 6, "category_id": first["category_id"], "bbox": box, "score": score}
        for box, score in ((first["bbox"], 0.9), ([2.0, 40, 20, 20], 0.95))
    ]
    boxes = {name: classify_detections(truth, found)[0][6] for name, found in (("both", detections), ("none", []))}
    assert [box.style for box in boxes["both"]] == ["missed", "found", "false"]
    assert [box.style for box in boxes["none"]] == ["missed", "missed"]
    path = figure.plot_verdicts(tmp_path / "new" / "a.png", [(dataset.load_image(6), boxes)])
    middle = pixels_of(path, figure.VERDICT_COLORS["missed"]).shape[1] // 2
    for style in ("found", "false"):
        mask = pixels_of(path, figure.VERDICT_COLORS[style])
        mask = mask[: int(0.85 * len(mask))]  # without the key
        assert mask[:, :middle].sum() > 50
        assert not mask[:, middle:].any()


def test_maps_side_by_side_on_one_scale(tmp_path):
    features = {
        "target": {"p2x": torch.ones(1, 3, 8, 8)},
        "made": {"p2x": torch.zeros(1, 3, 8, 8), "p3": torch.ones(1)},
    }
    path = figure.plot_feature_maps(tmp_path / "a.svg", torch.rand(3, 16, 16), features)
    assert [f"<!-- {title} -->" in path.read_text() for title in ("image", "p2x: target", "p2x: made", "p3: made")] == [
        True, True, True, False,
    ]  # fmt: skip
    png = figure.plot_feature_maps(tmp_path / "a.png", torch.ones(3, 16, 16), features)
    pixels = np.array(Image.open(png).convert("RGB")).astype(int)
    third = pixels.shape[1] // 3
    middle = pixels[len(pixels) // 2]
    assert middle[third + third // 2].sum() > 600, "ones are hot"
    assert middle[2 * third + third // 2].sum() < 50, "zeros are cold"
