import pytest
import torch
from tests.detectors.test_aligned import built

from featlift.detectors.shared_masks import SharedMaskPredictor, share_masks


@pytest.mark.parametrize("name", ["mask-rcnn", "cascade-mask-rcnn"])
def test_all_classes_have_one_mask(name):
    torch.manual_seed(0)
    detector = built(name, class_agnostic_masks=True)
    predictor = detector.roi_heads.mask_predictor
    assert predictor.predictor.mask_fcn_logits.weight.shape == (1, 32, 1, 1)
    logits = predictor(torch.randn(2, 32, 14, 14))
    assert logits.shape == (2, 4, 28, 28)
    assert all(torch.equal(logits[:, 0], logits[:, k]) for k in range(4))
    target = {
        "boxes": torch.tensor([[8.0, 8.0, 40.0, 40.0]]),
        "labels": torch.tensor([2]),
        "masks": torch.ones(1, 64, 64).byte(),
    }
    losses = detector.train()([torch.rand(3, 64, 64)], [target])
    losses["loss_mask"].backward()
    assert predictor.predictor.mask_fcn_logits.weight.grad.abs().sum() > 0


def test_a_detector_without_masks_is_refused():
    with pytest.raises(TypeError, match="leave out class_agnostic_masks"):
        share_masks(built("faster-rcnn"))
    assert SharedMaskPredictor(8, 3).num_outputs == 3
