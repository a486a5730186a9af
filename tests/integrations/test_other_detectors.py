"""Detectors of Ultralytics and Hugging Face with torchvision's interface, against the libraries' own results and a decoding by hand."""

import numpy as np
import pytest
import torch
from PIL import Image
from tests.integrations.zoo import random_network
from tests.integrations.zoo_transformers import detr, rtdetr

from featlift.detectors.detection_limit import limit_detections
from featlift.integrations.other_detectors import TransformersDetector, UltralyticsDetector

PIXELS = np.random.default_rng(0).integers(0, 256, (48, 80, 3), dtype=np.uint8)
IMAGE = torch.from_numpy(PIXELS).permute(2, 0, 1) / 255


def yolo(name):
    torch.manual_seed(0)
    model = pytest.importorskip("ultralytics").YOLO(f"{name}.yaml", verbose=False)
    for branch in getattr(model.model.model[-1], "cv3", ()):  # or all scores are about 1e-5
        torch.nn.init.normal_(branch[-1].bias)
    return model


@pytest.mark.parametrize("name", ["yolov8n", "yolov8n-seg"])
def test_boxes_are_those_of_ultralytics_on_a_pil_image(name):
    model = yolo(name)
    model.overrides["imgsz"] = 64
    detector = UltralyticsDetector(model, score_threshold=0.6, detections_per_img=20).eval()
    found = detector([IMAGE])[0]
    (expected,) = model.predict(Image.fromarray(PIXELS), conf=0.6, max_det=20, retina_masks=True, verbose=False)
    assert len(found["boxes"]) > 3
    torch.testing.assert_close(found["boxes"], expected.boxes.xyxy)
    torch.testing.assert_close(found["scores"], expected.boxes.conf)
    assert (found["labels"] - 1).tolist() == expected.boxes.cls.int().tolist()
    assert detector.classes == [expected.names[label] for label in range(80)]
    if name.endswith("seg"):
        assert found["masks"].shape == (len(found["boxes"]), 1, 48, 80)
    limit_detections(detector, 2)
    assert len(detector([IMAGE, IMAGE])[1]["boxes"]) == 2


def test_a_classifier_of_ultralytics_is_refused():
    with pytest.raises(ValueError, match="is for 'classify'; possible are detect, segment, pose"):
        UltralyticsDetector(yolo("yolov8n-cls"))


@pytest.mark.parametrize(("kind", "first"), [("RTDetr", 1), ("Detr", 0)])
def test_boxes_are_those_of_a_decoding_by_hand(kind, first):
    transformers = pytest.importorskip("transformers")
    network = random_network(rtdetr if first else lambda: detr("DetrForObjectDetection"))
    number = network.config.num_labels
    network.config.id2label = {label: f"class {label}" if label or first else "N/A" for label in range(number)}
    processor = getattr(transformers, f"{kind}ImageProcessor")(size={"height": 64, "width": 64}, do_normalize=False)
    detector = TransformersDetector(network, processor, score_threshold=0.0, detections_per_img=4)
    image = torch.rand(3, 64, 64)
    with torch.no_grad():
        found, outputs = detector([image])[0], network(image[None])
    scores = outputs.logits[0].sigmoid() if first else outputs.logits[0].softmax(-1)[:, :-1]
    boxes = torch.cat([outputs.pred_boxes[0, :, :2] - outputs.pred_boxes[0, :, 2:] / 2,
                       outputs.pred_boxes[0, :, :2] + outputs.pred_boxes[0, :, 2:] / 2], 1)  # fmt: skip
    for box, label, score in zip(found["boxes"], found["labels"], found["scores"], strict=True):
        query = (boxes * 64 - box).abs().sum(1).argmin()
        torch.testing.assert_close(box, boxes[query] * 64)
        torch.testing.assert_close(score, scores[query, label - first])
    assert found["scores"].tolist() == sorted(found["scores"].tolist(), reverse=True)
    assert detector.classes == [f"class {label}" for label in range(1 - first, number)]


def test_a_segmenter_of_hugging_face_is_refused():
    transformers = pytest.importorskip("transformers")
    with pytest.raises(ValueError, match="Linear is no object detector: ViTImageProcessor has no post_process"):
        TransformersDetector(torch.nn.Linear(1, 1), transformers.ViTImageProcessor())
