"""YOLOX (Ge et al., arXiv 2107.08430) by ``pixeltable-yolox``: load published weights, train, evaluate, export.

:class:`YOLOXDetector` gives the network torchvision's interface, so that FeatLift's evaluation, training and reports take it. The network
itself, ``detector.network``, is what `featlift.upgrade` takes.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import batched_nms, box_convert

from featlift.data.letterbox import letterbox
from featlift.features import Target
from featlift.integrations.yolox_network import build_yolox, size_of_width
from featlift.integrations.yolox_onnx import load_onnx_yolox

YOLOX_PREFIX = "yolox:"
"""Prefix of a file of YOLOX on the command line."""


class YOLOXDetector(nn.Module):
    """torchvision's interface on YOLOX: letterboxed images, BGR in 0…255, and the published selection of boxes.

    Args:
        network: YOLOX, such as of :func:`load_yolox`, plain or upgraded.
        image_size: Side of the letterboxed image, px; a multiple of 32.
        classes: Numbers of the classes (0…K-1) that are detected, which become the labels 1, 2, …; None for all.
        score_threshold: Boxes with a lower score (objectness times class probability) are dropped.
        iou_threshold: That of non-maximum suppression, per class.
        max_detections: Maximum number of boxes per image.
    """

    def __init__(
        self,
        network: nn.Module,
        image_size: int = 416,
        classes: Sequence[int] | None = None,
        score_threshold: float = 0.01,
        iou_threshold: float = 0.65,
        max_detections: int = 100,
    ):
        super().__init__()
        if image_size % 32 or image_size < 32:
            raise ValueError(f"image_size is {image_size}; YOLOX needs a multiple of 32.")
        self.network, self.image_size, self.classes = network, image_size, classes
        self.training = network.training
        self.score_threshold, self.iou_threshold = score_threshold, iou_threshold
        self.detections_per_img = max_detections  # torchvision's name

    def forward(self, images: Sequence[Tensor], targets: Sequence[Target] | None = None) -> Any:
        """Images ``[3, H, W]`` RGB in 0…1 → detections with ``boxes [N, 4]`` xyxy px, ``labels``, ``scores``; or, in training, losses.

        Raises:
            ValueError: In training without targets.
        """
        squares, scales = zip(*(letterbox(image, self.image_size) for image in images), strict=True)
        batch = torch.stack(squares).flip(1) * 255
        if not self.training:
            rows = self.network(batch)
            return [self._select(one, scale) for one, scale in zip(rows, scales, strict=True)]
        if targets is None:
            raise ValueError("In training mode YOLOX needs targets; call detector.eval() to detect.")
        losses: Mapping[str, Any] = self.network(batch, encode_targets(targets, scales))
        names = {"iou_loss": "boxes", "conf_loss": "objectness", "cls_loss": "classes", "l1_loss": "l1"}
        return {name: losses[key] for key, name in names.items() if isinstance(losses[key], Tensor)}

    def _select(self, rows: Tensor, scale: float) -> dict[str, Tensor]:
        """``[N, 5 + K]`` → detections in px of the given image, best first."""
        probabilities = rows[:, 5:] if self.classes is None else rows[:, 5:][:, list(self.classes)]
        best, labels = probabilities.max(1)
        scores = rows[:, 4] * best
        keep = scores > self.score_threshold
        boxes, scores, labels = box_convert(rows[keep, :4], "cxcywh", "xyxy"), scores[keep], labels[keep]
        order = batched_nms(boxes, scores, labels, self.iou_threshold)[: self.detections_per_img]
        return {"boxes": boxes[order] / scale, "scores": scores[order], "labels": labels[order] + 1}


def encode_targets(targets: Sequence[Target], scales: Sequence[float]) -> Tensor:
    """Encode targets (labels 1…K, boxes xyxy px) as YOLOX's ``[B, N, 5]``: class from 0, center and sides in the letterboxed image.

    Rows of zeros pad images with fewer objects.
    """
    number = max(1, *(len(target["boxes"]) for target in targets))
    rows = targets[0]["boxes"].new_zeros(len(targets), number, 5)
    for row, target, scale in zip(rows, targets, scales, strict=True):
        count = len(target["boxes"])
        row[:count, 0] = target["labels"] - 1
        row[:count, 1:] = box_convert(target["boxes"] * scale, "xyxy", "cxcywh")
    return rows


def load_yolox(path: str | Path) -> nn.Module:
    """Load YOLOX from a published ONNX file, or from a checkpoint (``.pth``) of the authors or of pixeltable-yolox.

    Size and number of classes are read from the weights. A network of an ONNX file has no batch norm.

    Raises:
        FileNotFoundError: If there is no such file.
        ImportError: If pixeltable-yolox, or onnx for an ONNX file, is not installed.
        ValueError: If the file holds no YOLOX.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    if path.suffix == ".onnx":
        return load_onnx_yolox(path)
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    state = checkpoint.get("model", checkpoint)
    if "backbone.backbone.stem.conv.conv.weight" not in state or "head.cls_preds.0.bias" not in state:
        raise ValueError(
            f"{path} holds no YOLOX: it lacks the authors' names of tensors, such as head.cls_preds.0.bias."
        )
    width = state["backbone.backbone.stem.conv.conv.weight"].shape[0]
    network = build_yolox(size_of_width(width), len(state["head.cls_preds.0.bias"]))
    network.load_state_dict(state)
    return network
