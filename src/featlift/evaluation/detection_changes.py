"""Which detections of a detector another detector does not have, in an image without ground truth."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import box_iou


def find_detection_changes(
    boxes: tuple[Tensor, Tensor], classes: tuple[Sequence[str], Sequence[str]], min_iou: float = 0.5
) -> tuple[Tensor, Tensor]:
    """Match the detections of two detectors in one image, and return those without a partner.

    Pairs of one class name are matched one to one, largest IoU first.

    Args:
        boxes: Boxes ``[N, 4]`` of the first and ``[M, 4]`` of the second detector, xyxy in pixels.
        classes: Class names of both.
        min_iou: Minimum IoU of a pair.

    Returns:
        ``vanished [N]`` and ``appeared [M]``, bool: detections of the first and of the second detector only.
    """
    iou = box_iou(*boxes)
    same_class = torch.tensor([[a == b for b in classes[1]] for a in classes[0]], dtype=torch.bool)
    iou = torch.where(same_class.reshape(iou.shape), iou, 0.0)
    vanished, appeared = (torch.ones(len(each), dtype=torch.bool) for each in boxes)
    while iou.numel() and iou.max() >= min_iou:
        row, column = divmod(int(iou.argmax()), iou.shape[1])
        vanished[row] = appeared[column] = False
        iou[row], iou[:, column] = 0.0, 0.0
    return vanished, appeared
