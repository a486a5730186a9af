"""Numerical difference between the outputs of an exported file and those of its PyTorch module."""

import torch
from torch import Tensor

from featlift.deployment.export_formats import Outputs


def relative_error(outputs: Outputs, expected: Outputs) -> float:
    """Return the largest relative error (L2 norm) over the outputs; infinite if names or shapes differ."""
    if [(name, y.shape) for name, y in outputs.items()] != [(name, y.shape) for name, y in expected.items()]:
        return float("inf")
    return max(_relative_norm(outputs[name], y) for name, y in expected.items())


def detection_error(outputs: Outputs, expected: Outputs) -> float:
    """Return the distance of two sets of detections in any order: the largest distance of a detection to its nearest in the other set.

    Distances are of boxes ``[N, 4]`` relative to the largest coordinate, of scores, and of masks ``[N, 1, H, W]`` relative to their norm;
    different labels have a distance of at least 1. Infinite if the numbers of detections differ.
    """
    if len(outputs["boxes"]) != len(expected["boxes"]):
        return float("inf")
    if not len(expected["boxes"]):
        return 0.0
    size = expected["boxes"].abs().max().clamp(min=1)
    distances = torch.cdist(_detection_points(expected, size), _detection_points(outputs, size), p=float("inf"))
    nearest = distances.argmin(dim=1)
    masks = _relative_norm(outputs["masks"][nearest], expected["masks"]) if "masks" in expected else 0.0
    return max(distances.amin(dim=0).max().item(), distances.amin(dim=1).max().item(), masks)


def _detection_points(detections: Outputs, size: Tensor) -> Tensor:
    return torch.cat(
        [detections["boxes"] / size, detections["scores"][:, None], detections["labels"][:, None].float()], 1
    ).double()


def _relative_norm(y: Tensor, expected: Tensor) -> float:
    return ((y - expected).norm() / expected.norm().clamp(min=1e-12)).item()
