"""torchvision's interface on detectors of Ultralytics and Hugging Face: images in, boxes, labels and scores out.

Pre-processing and the selection of boxes are the libraries' own, reached through the objects that are passed; neither is imported.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from featlift.device import device_of
from featlift.evaluation.class_mapping import NO_CLASS

YOLO_TASKS = ("detect", "segment", "pose")
"""Tasks of Ultralytics whose results have boxes with four sides."""


class UltralyticsDetector(nn.Module):
    """torchvision's interface on an object of Ultralytics, such as ``YOLO("yolo11n.pt")``, by its ``predict``.

    Args:
        yolo: The object, plain or with an upgraded ``yolo.model``.
        score_threshold: Boxes with a lower score are dropped.
        detections_per_img: Maximum number of boxes per image.

    Raises:
        ValueError: If it finds no boxes, such as a classifier.
    """

    def __init__(self, yolo: Any, score_threshold: float = 0.001, detections_per_img: int = 300):
        super().__init__()
        if yolo.task not in YOLO_TASKS:
            raise ValueError(f"This network of Ultralytics is for '{yolo.task}'; possible are {', '.join(YOLO_TASKS)}.")
        self.network: nn.Module = yolo.model
        self.score_threshold, self.detections_per_img = score_threshold, detections_per_img
        self._yolo = (yolo,)  # no submodule: YOLO.train starts a training
        self.classes = [str(yolo.names[label]) for label in sorted(yolo.names)]

    def forward(self, images: Sequence[Tensor]) -> list[dict[str, Tensor]]:
        """Images ``[3, H, W]`` RGB in 0…1 → ``boxes [N, 4]`` xyxy px, ``labels``, ``scores``, of segmentation ``masks [N, 1, H, W]``."""
        device = device_of(self.network)
        results = self._yolo[0].predict(
            [(255 * image).round().byte().permute(1, 2, 0).flip(-1).cpu().numpy() for image in images],
            conf=self.score_threshold,
            max_det=self.detections_per_img,
            device=str(device),
            retina_masks=True,  # in the size of the image
            verbose=False,
        )
        return [_from_results(result, device) for result in results]


class TransformersDetector(nn.Module):
    """torchvision's interface on an object detector of Hugging Face and its image processor.

    Args:
        network: Network with ``logits`` and ``pred_boxes``, plain or upgraded.
        processor: Its image processor, with ``post_process_object_detection``.
        score_threshold: Boxes with a lower score are dropped.
        detections_per_img: Maximum number of boxes per image.

    Raises:
        ValueError: If the processor is none of an object detector.
    """

    def __init__(
        self, network: nn.Module, processor: Any, score_threshold: float = 0.001, detections_per_img: int = 100
    ):
        super().__init__()
        if not hasattr(processor, "post_process_object_detection"):
            raise ValueError(
                f"{type(network).__name__} is no object detector: {type(processor).__name__} has no post_process_object_detection."
            )
        self.network, self.processor = network, processor
        self.score_threshold, self.detections_per_img = score_threshold, detections_per_img
        config: Any = network.config
        names = [str(config.id2label[label]) for label in sorted(config.id2label)]
        self.first_label = int(names[0] not in NO_CLASS)  # label 0 of DETR is no class
        self.classes = names[1 - self.first_label :]

    def forward(self, images: Sequence[Tensor]) -> list[dict[str, Tensor]]:
        """Images ``[3, H, W]`` RGB in 0…1 → ``boxes [N, 4]`` xyxy px, ``labels`` 1…K and ``scores``, best first."""
        inputs = self.processor(images=list(images), do_rescale=False, return_tensors="pt").to(device_of(self.network))
        outputs = self.network(**inputs)
        sizes = [tuple(image.shape[-2:]) for image in images]
        found = self.processor.post_process_object_detection(outputs, self.score_threshold, sizes)
        return [self._select(one) for one in found]

    def _select(self, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
        order = found["scores"].argsort(descending=True)[: self.detections_per_img]
        labels = found["labels"][order] + self.first_label
        return {"boxes": found["boxes"][order], "labels": labels, "scores": found["scores"][order]}


def _from_results(result: Any, device: torch.device) -> dict[str, Tensor]:
    """Convert ``Results`` of Ultralytics."""
    boxes = result.boxes
    found = {
        "boxes": torch.as_tensor(boxes.xyxy, device=device).float(),
        "labels": torch.as_tensor(boxes.cls, device=device).long() + 1,
        "scores": torch.as_tensor(boxes.conf, device=device).float(),
    }
    if result.masks is not None:
        found["masks"] = torch.as_tensor(result.masks.data, device=device).float()[:, None]
    return found
