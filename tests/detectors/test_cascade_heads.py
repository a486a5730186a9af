"""Box heads of the cascade."""

import pytest
import torch
from torch import nn

from featlift.detectors.cascade_heads import (
    BBOX_REG_WEIGHTS,
    IOU_THRESHOLDS,
    CascadeRoIHeads,
    CascadeStage,
)
from featlift.detectors.rcnn import PyramidRoIAlign


def stage(number=0, classes=2):
    return CascadeStage(nn.Flatten(), 2 * 7 * 7, classes, IOU_THRESHOLDS[number], BBOX_REG_WEIGHTS[number])


def heads():
    torch.manual_seed(0)
    return CascadeRoIHeads([stage(i) for i in range(3)], PyramidRoIAlign(["p2", "p3"], 7), {})


def boxes_of_iou(*ious):
    """Boxes of the height of (0, 0, 100, 100) with the given IoU: (0, 0, 100·iou, 100)."""
    return torch.tensor([[0.0, 0.0, 100 * iou, 100.0] for iou in ious])


@pytest.mark.parametrize(("number", "expected"), [(0, [2, 2, 2, 0]), (1, [2, 2, 0, 0]), (2, [2, 0, 0, 0])])
def test_later_stages_require_more_overlap(number, expected):
    target = {"boxes": torch.tensor([[0.0, 0.0, 100.0, 100.0]]), "labels": torch.tensor([2])}
    labels, offsets = stage(number).assign_targets(boxes_of_iou(0.75, 0.65, 0.55, 0.45), target)
    assert labels.tolist() == expected
    widths = torch.tensor([75.0, 65.0, 55.0, 45.0])
    torch.testing.assert_close(offsets[:, 2], BBOX_REG_WEIGHTS[number][2] * torch.log(100 / widths))


def test_offsets_lead_to_the_object():
    target = {"boxes": torch.tensor([[10.0, 20.0, 50.0, 90.0]]), "labels": torch.tensor([1])}
    boxes = torch.tensor([[12.0, 18.0, 48.0, 99.0]])
    for number in range(3):
        _, offsets = stage(number).assign_targets(boxes, target)
        (reached,) = stage(number).refine_boxes(offsets, [boxes], [(200, 200)])
        torch.testing.assert_close(reached, target["boxes"])


def test_an_image_without_objects_is_all_background():
    nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    labels, offsets = stage().assign_targets(boxes_of_iou(0.9, 0.5), nothing)
    assert not labels.any()
    assert not offsets.any()


def test_each_stage_gets_what_the_one_before_made(monkeypatch):
    """The second stage pools from the boxes refined by the first stage."""
    cascade, pooled = heads().eval(), []
    pool = cascade.box_roi_pool.forward
    monkeypatch.setattr(cascade.box_roi_pool, "forward", lambda x, b, s: pooled.append(b[0].clone()) or pool(x, b, s))
    features = {"p2": torch.randn(1, 2, 32, 32), "p3": torch.randn(1, 2, 16, 16)}
    boxes = torch.tensor([[8.0, 8.0, 60.0, 70.0], [40.0, 30.0, 90.0, 90.0]])
    with torch.no_grad():
        cascade(features, [boxes], [(128, 128)])
        for number in (0, 1):
            _, offsets = cascade.stages[number](pool(features, [pooled[number]], [(128, 128)]))
            expected = cascade.stages[number].refine_boxes(offsets, [pooled[number]], [(128, 128)])[0]
            torch.testing.assert_close(pooled[number + 1], expected)


def test_scores_are_the_mean_over_stages():
    cascade = heads().eval()
    for number, stage in enumerate(cascade.stages):
        nn.init.zeros_(stage.predictor.cls_score.weight)
        nn.init.zeros_(stage.predictor.bbox_pred.weight)
        nn.init.zeros_(stage.predictor.bbox_pred.bias)
        stage.predictor.cls_score.bias.data = torch.tensor([0.0, float(number), 1.0])
    box = torch.tensor([[8.0, 8.0, 60.0, 70.0]])
    features = {"p2": torch.randn(1, 2, 32, 32), "p3": torch.randn(1, 2, 16, 16)}
    (detections,), _ = cascade(features, [box], [(128, 128)])
    logits = torch.tensor([[0.0, 0.0, 1.0], [0.0, 1.0, 1.0], [0.0, 2.0, 1.0]])
    expected = logits.softmax(dim=1).mean(dim=0)[1:]
    torch.testing.assert_close(detections["scores"].sort().values, expected.sort().values)
    torch.testing.assert_close(detections["boxes"], box.expand(2, 4))  # class-agnostic: the same box for both classes


def test_no_stage_learns_from_the_boxes_of_another():
    """The proposals of a stage carry no gradient, so the loss of stage 2 trains stage 2 only (and the backbone)."""
    cascade = heads().train()
    features = {"p2": torch.randn(1, 2, 32, 32), "p3": torch.randn(1, 2, 16, 16)}
    target = {"boxes": torch.tensor([[8.0, 8.0, 60.0, 70.0]]), "labels": torch.tensor([1])}
    _, losses = cascade(features, [torch.tensor([[10.0, 8.0, 60.0, 72.0]])], [(128, 128)], [target])
    losses["loss_classifier_2"].backward()
    moved = [any(p.grad is not None for p in stage.parameters()) for stage in cascade.stages]
    assert moved == [False, False, True]
