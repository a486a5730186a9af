import numpy as np
import torch
from torch import nn

from featlift.app.detection import COLORS, draw_changes, draw_feature_maps, find_changed, format_table, run_detectors
from featlift.deployment.predictor import Predictor

IMAGE = torch.full((3, 80, 96), 0.5)


def color(name):
    return [int(COLORS[name][i : i + 2], 16) for i in (1, 3, 5)]


def test_both_detectors_with_their_maps_and_times(predictors):
    outputs = run_detectors(predictors, IMAGE)
    assert [len(output.prediction) for output in outputs.values()] == [3, 2]
    assert [list(output.features) for output in outputs.values()] == [["p2", "p3"], ["p2", "p3"]]
    assert outputs["afi"].features["p3"].shape == (1, 4, 10, 12)
    assert all(output.milliseconds > 0 for output in outputs.values())


def test_changes_are_counted_at_the_score(predictors):
    outputs = run_detectors(predictors, IMAGE, rounds=1)
    for minimum, rows in ((0.5, [(2, 1), (1, 0)]), (0.0, [(3, 2), (2, 1)])):
        predictions = [output.prediction.above(minimum) for output in outputs.values()]
        changed = find_changed(predictions)
        assert [(len(p), int(c.sum())) for p, c in zip(predictions, changed, strict=True)] == rows
        table = format_table(outputs, predictions, changed)
        assert f"| nearest | {rows[0][0]} | {rows[0][1]} |" in table
        assert f"| afi | {rows[1][0]} | {rows[1][1]} |" in table


def test_a_changed_box_has_its_color(predictors):
    prediction = run_detectors(predictors, IMAGE, rounds=1)["nearest"].prediction
    drawn = draw_changes(prediction, torch.tensor([False, True, False]), "vanished")
    assert drawn.shape == (560, 672, 3)  # 7 times, to be at least 640 px long
    assert drawn[20 * 7, 10 * 7].tolist() == color("both")
    assert drawn[25 * 7, 40 * 7].tolist() == color("vanished")
    assert drawn[75 * 7, 90 * 7].tolist() == [128, 128, 128]


def test_one_detector_has_no_changes(predictors):
    prediction = run_detectors(predictors, IMAGE, rounds=1)["afi"].prediction
    assert not find_changed([prediction])[0].any()


def test_feature_maps_go_level_by_level(predictors):
    features = {name: output.features for name, output in run_detectors(predictors, IMAGE, rounds=1).items()}
    del features["afi"]["p2"]
    images = draw_feature_maps(features, size=48)
    assert [caption for _, caption in images] == [
        "p2: nearest, 20 x 24 cells",
        "p3: nearest, 10 x 12 cells",
        "p3: afi, 10 x 12 cells",
    ]
    assert [image.shape for image, _ in images] == [(40, 48, 3), (40, 48, 3), (40, 48, 3)]
    assert np.array_equal(images[1][0], images[2][0])


def test_the_extended_level_is_shown():
    class Extended(nn.Module):
        def forward(self, image):
            return {"p2": image[..., ::4, ::4], "inner2": image, "c1": image}

        def extended_levels(self, features):
            return {"p2x": features["c1"][..., ::2, ::2]}

    class Detector(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = Extended()

        def forward(self, images):
            self.backbone(images[0][None])
            return [{"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64), "scores": torch.zeros(0)}]

    outputs = run_detectors({"efpn": Predictor(Detector(), device="cpu", classes=["a"])}, IMAGE, rounds=1)
    assert list(outputs["efpn"].features) == ["p2x", "p2"]


def test_a_detector_without_a_backbone_has_no_maps():
    class Detector(nn.Module):
        def forward(self, images):
            return [{"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64), "scores": torch.zeros(0)}]

    outputs = run_detectors({"x": Predictor(Detector(), device="cpu", classes=["a"])}, IMAGE, rounds=1)
    assert outputs["x"].features == {}
    assert draw_changes(outputs["x"].prediction, torch.zeros(0, dtype=torch.bool), "appeared").shape == (560, 672, 3)
