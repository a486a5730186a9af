import pytest
import torch

from featlift.evaluation.coco_metrics import coco_metrics
from featlift.evaluation.size_curves import SizeRange, metrics_by_size


def make(seed=0, num_images=6):
    """Objects of every size, and detections near some of them."""
    draw = torch.Generator().manual_seed(seed)
    annotations, detections = [], []
    for image_id in range(1, num_images + 1):
        for _ in range(8):
            side = float(4 * 2 ** (6 * torch.rand((), generator=draw)))
            box = [*(200 * torch.rand(2, generator=draw)).tolist(), side, side]
            category = int(torch.randint(1, 3, (), generator=draw))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": category,
                    "bbox": box,
                    "area": side**2,
                    "iscrowd": 0,
                }
            )
            if torch.rand((), generator=draw) < 0.7:
                shift = side * 0.1 * float(torch.rand((), generator=draw))
                moved = [box[0] + shift, box[1], side, side]
                score = float(torch.rand((), generator=draw))
                detections.append({"image_id": image_id, "category_id": category, "bbox": moved, "score": score})
    images = [{"id": i, "file_name": f"{i}.png", "height": 600, "width": 600} for i in range(1, num_images + 1)]
    categories = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]
    return {"images": images, "annotations": annotations, "categories": categories}, detections


def test_cocos_ranges_are_cocos_metrics():
    truth, detections = make()
    expected = coco_metrics(truth, detections)
    small, medium, large = metrics_by_size(truth, detections, (0, 32, 96, 1e5))
    for found, name in ((small, "small"), (medium, "medium"), (large, "large")):
        assert (found.ap, found.ar) == pytest.approx((expected[f"ap_{name}"], expected[f"ar_{name}"]))
        assert found.num_objects == sum(found.low**2 <= a["area"] <= found.high**2 for a in truth["annotations"])


def test_a_range_without_objects_has_no_metrics():
    truth, detections = make()
    (tiny, rest) = metrics_by_size(truth, detections, (0, 1, 1e5))
    assert tiny == SizeRange(0, 1, 0, None, None)
    assert rest.num_objects == len(truth["annotations"])


def test_edges_have_to_rise():
    with pytest.raises(ValueError, match="rising"):
        metrics_by_size(*make(num_images=1), edges=(0, 32, 32))
