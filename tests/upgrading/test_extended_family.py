"""Maps of the plain pass, scores of heads of three kinds."""

import pytest
import torch

from featlift.upgrading.extended_family import LevelPredictions, PlainMapNames, capture_maps, enlarge, plain_maps


def test_scores_of_the_three_kinds_of_heads():
    boxes, logits = torch.tensor([[[1.0, 2, 4, 14]]]), torch.tensor([[[0.0, 2.0]]])
    other = torch.tensor([[1.0]])
    p, q = torch.tensor([0.5, 0.8807971]), 0.7310586
    torch.testing.assert_close(LevelPredictions(boxes, logits).scores[0, 0], p)
    torch.testing.assert_close(LevelPredictions(boxes, logits, objectness_logits=other).scores[0, 0], p * q)
    torch.testing.assert_close(LevelPredictions(boxes, logits, centerness_logits=other).scores[0, 0], (p * q) ** 0.5)
    assert LevelPredictions(boxes, logits).sizes.item() == pytest.approx(6.0)


def test_maps_are_read_only_within_the_context(yolox):
    names = PlainMapNames("backbone", "backbone.lateral_conv0", ("backbone.C3_n3",))
    image = torch.rand(1, 3, 64, 64)
    with capture_maps(yolox, names), torch.no_grad():
        with pytest.raises(RuntimeError, match="Call the model itself"):
            plain_maps(names)
        yolox(image)
        maps = plain_maps(names)
    assert maps.image is image
    assert maps.coarse.shape == (1, 12, 2, 2)
    assert maps.guides[0].shape == (1, 12, 4, 4)
    assert not yolox.backbone.lateral_conv0._forward_hooks


def test_enlarging_keeps_the_mean_of_a_ramp():
    ramp = torch.arange(4.0).expand(1, 3, 4, 4)
    large = enlarge(ramp)
    assert large.shape == (1, 3, 8, 8)
    assert large.mean() == pytest.approx(1.5)
