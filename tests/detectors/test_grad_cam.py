import pytest
import torch
from tests.detectors.test_aligned import built

from featlift.detectors.grad_cam import grad_cam


def fcos_scores(detector, image):
    """The scores of the detections, √(class · centerness), without those of other cells, whose roots have infinite gradients at 0."""
    found = detector([image])[0]
    batch, _ = detector.transform([image])
    outputs = detector.head(list(detector.backbone(batch.tensors).values()))
    products = (outputs["cls_logits"][0].sigmoid() * outputs["bbox_ctrness"][0].sigmoid()).flatten()
    return torch.stack([products[(products.sqrt() - score).abs().argmin()].sqrt() for score in found["scores"]])


@pytest.mark.parametrize("name", ["faster-rcnn", "retinanet", "fcos"])
def test_the_maps_are_those_of_a_backward_pass_through_the_whole_detector(name):
    """The same by torch's hooks and explicit loops, from the image to the scores."""
    torch.manual_seed(0)
    detector, image = built(name).eval(), torch.rand(3, 64, 64)
    for head in (getattr(detector, "roi_heads", None), detector):
        if hasattr(head, "score_thresh"):
            head.score_thresh = 0.0
    seen = {}

    def keep(module, inputs, maps):
        for x in maps.values():
            x.retain_grad()
        seen.update(maps)

    handle = detector.backbone.register_forward_hook(keep)
    (detector([image])[0]["scores"] if name != "fcos" else fcos_scores(detector, image)).sum().backward()
    handle.remove()
    found = grad_cam(detector, image)
    assert set(found) == set(seen)
    assert sum(x.sum() for x in found.values()) > 0
    for level, x in seen.items():
        expected = torch.zeros_like(x[0, 0])
        if x.grad is not None:
            for channel in range(x.shape[1]):
                expected = expected + x.grad[0, channel].mean() * x[0, channel].detach()
        torch.testing.assert_close(found[level][0, 0], expected.clamp(min=0), atol=1e-6, rtol=1e-3)


def test_without_detections_the_maps_are_zero():
    torch.manual_seed(0)
    detector = built("faster-rcnn").eval()
    detector.roi_heads.score_thresh = 1.1
    assert all(not x.any() for x in grad_cam(detector, torch.rand(3, 64, 64)).values())
