"""Figures of FDSR's evaluation: AP against the downscaling factor, and detections of all pipelines in one image."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.models.detection.transform import resize_boxes

from featlift.detectors.fixed_size import resize_to
from featlift.detectors.super_resolved import DegradeAndUpscale
from featlift.device import device_of
from featlift.image_sr.bicubic import BicubicSR
from featlift.papers.fdsr.pipelines import SRPipeline
from featlift.report.figure import save_figure
from featlift.report.image_grid import ImagePanel, make_image_grid


def plot_robustness(curves: Mapping[str, Mapping[int, float]], path: Path) -> None:
    """Plot AP in percent against the downscaling factor, one line per pipeline, into an image file."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.4), layout="constrained")
    axes = figure.add_subplot()
    for name, curve in curves.items():
        style = {"linestyle": "--", "color": "0.5"} if name == "original" else {"marker": "o"}
        axes.plot(list(curve), [100 * value for value in curve.values()], label=name, **style)  # type: ignore[arg-type]
    axes.set(
        xlabel="downscaling factor per side",
        ylabel="AP (%)",
        ylim=(0, None),
        xticks=sorted({k for c in curves.values() for k in c}),
    )
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", frameon=False)
    save_figure(figure, path)


@torch.no_grad()
def make_detection_grid(
    pipelines: Mapping[str, SRPipeline],
    sample: tuple[Tensor, Mapping[str, Tensor]],
    downscale: int = 4,
    crop_size: int = 96,
    score_threshold: float = 0.5,
) -> Image.Image:
    """Draw the low-resolution image and the input and detections of each pipeline, in a crop of ``crop_size`` px with the most objects.

    ``sample`` is an item of a dataset: image ``[3, H, W]`` and target.
    """
    image, target = _resize_sample(*sample, next(iter(pipelines.values())).image_size)
    low = DegradeAndUpscale(BicubicSR(downscale), downscale).degrade(image[None])
    enlarged = nn.functional.interpolate(low, scale_factor=downscale, mode="nearest")
    panels = [ImagePanel(enlarged[0, :, : image.shape[-2], : image.shape[-1]], f"low (1/{downscale})")]
    for name, pipeline in pipelines.items():
        panels.append(_detection_panel(name, pipeline, image, downscale))
    crop = _densest_crop(target["boxes"], image.shape[-2:], crop_size)
    return make_image_grid(panels, target, crop, score_threshold=score_threshold)


def _resize_sample(
    image: Tensor, target: Mapping[str, Tensor], size: tuple[int, int] | None
) -> tuple[Tensor, Mapping[str, Tensor]]:
    """Image and boxes in ``size``, the image size of the pipelines."""
    if size is None:
        return image, target
    boxes = resize_boxes(target["boxes"], list(image.shape[-2:]), list(size))
    return resize_to(image, size), {"boxes": boxes, "labels": target["labels"]}


def _detection_panel(name: str, pipeline: SRPipeline, image: Tensor, downscale: int) -> ImagePanel:
    """The detector's input made from ``image [3, H, W]`` and its detections, computed on the networks' devices."""
    transform = pipeline.build_transform(downscale)
    x = image if transform is None else transform(image[None].to(device_of(transform)))[0]
    detections = pipeline.detector.eval()([x.to(device_of(pipeline.detector))])[0]
    return ImagePanel(x.cpu(), name, {key: value.cpu() for key, value in detections.items()})


def _densest_crop(boxes: Tensor, size: Sequence[int], crop_size: int) -> tuple[int, int, int, int]:
    """Return the crop (top, left, height, width) around an object's center that contains the most centers."""
    height, width = (min(crop_size, length) for length in size)
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    if not len(centers):
        return (size[0] - height) // 2, (size[1] - width) // 2, height, width
    corners = (centers - centers.new_tensor([width, height]) / 2).clamp(min=0)
    corners = corners.minimum(centers.new_tensor([size[1] - width, size[0] - height])).long()
    inside = (centers >= corners[:, None]) & (centers < corners[:, None] + centers.new_tensor([width, height]))
    left, top = corners[int(inside.all(dim=-1).sum(dim=1).argmax())].tolist()
    return top, left, height, width
