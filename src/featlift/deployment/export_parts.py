"""Export the parts of a run: its detector, extractor or interpolators, verified on suitable inputs."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from featlift import checkpoints
from featlift.checkpoints.tensors import read_metadata
from featlift.data.config import build_dataset, load_data_config
from featlift.data.dataset import ImageDataset
from featlift.deployment.export import ExportResult, export_detector, export_module
from featlift.deployment.export_formats import EXPORT_FORMATS
from featlift.deployment.export_network import export_network
from featlift.detectors import get_extractor, get_interpolators
from featlift.integrations.by_name import has_torchvision_interface, load_network_by_name
from featlift.interpolators.guide import needs_guide
from featlift.registry import check_choice

EXPORTABLE_PARTS = ("detector", "extractor", "interpolator")
CHECK_MAP_SIZES = ((12, 17), (25, 9))
"""Heights and widths, in cells, of the feature maps that verify an interpolator."""
FOREIGN_IMAGE_SIZE = (640, 640)
"""(H, W) in pixels for which the network of another library is exported."""
CHECK_IMAGE_BLOCKS = ((4, 3), (5, 7))
"""Heights and widths, in units of ``size_divisible``, of the images that verify an extractor."""


@torch.no_grad()
def select_check_images(detector: nn.Module, dataset: ImageDataset) -> list[Tensor]:
    """Return two images ``[3, H, W]``, sides multiples of 32: the first with detections, and its upper two thirds.

    Raises:
        ValueError: If ``detector`` detects nothing in the first 20 images of ``dataset``.
    """
    detector.eval()
    for i in range(min(20, len(dataset))):
        image = dataset[i][0]
        height, width = (max(32, side // 32 * 32) for side in image.shape[-2:])
        if len(detector([image[:, :height, :width]])[0]["boxes"]):
            return [image[:, :height, :width], image[:, : max(32, height * 2 // 96 * 32), :width]]
    raise ValueError(
        "The detector has no detections in 20 images, so its box heads can be neither traced nor verified; "
        "train it longer, or give other images with --data."
    )


def export_part(
    model: str, format: str = "onnx", part: str = "detector", data: str = "", out: str = ""
) -> list[ExportResult]:
    """Export a part of a run or the file of an interpolator; the arguments are those of :func:`featlift.commands.export.export`.

    Raises:
        ValueError: If the part or format is unknown, or the verification fails.
    """
    check_choice(part, EXPORTABLE_PARTS, "part")
    check_choice(format, EXPORT_FORMATS, "format")
    module = _load_part(model)
    path = Path(out) if out else _default_path(model, "interpolator" if module else part, format)
    if module:
        return _export_interpolators([module], path, format)
    return _export_from_detector(model, part, path, format, data)


def _load_part(model: str) -> Any:
    """Load the module if ``model`` is the file of a part, else return None."""
    path = Path(model)
    if not path.is_file() or "class" not in read_metadata(path):
        return None
    return checkpoints.load(path)


def _export_from_detector(model: str, part: str, path: Path, format: str, data: str) -> list[ExportResult]:
    detector = load_network_by_name(model)
    if not has_torchvision_interface(detector):
        check_choice(part, ("detector",), f"part of {model}")
        return [export_network(detector, FOREIGN_IMAGE_SIZE, path, format)]
    if part == "detector":
        return [export_detector(detector, select_check_images(detector, _check_dataset(model, data)), path, format)]
    if part == "interpolator":
        return _export_interpolators(list(get_interpolators(detector)), path, format)
    extractor = get_extractor(detector)
    stride = extractor.size_divisible
    examples = [torch.rand(1, 3, height * stride, width * stride) for height, width in CHECK_IMAGE_BLOCKS]
    return [export_module(extractor, examples, path, format, stride)]


def _check_dataset(model: str, data: str) -> ImageDataset:
    return build_dataset(load_data_config(model, data or ("" if Path(model).exists() else "scenes")), "val")


def _export_interpolators(modules: list[Any], path: Path, format: str) -> list[ExportResult]:
    paths = [path] if len(modules) == 1 else [path.with_stem(f"{path.stem}{i}") for i in range(len(modules))]
    results = []
    for module, file in zip(modules, paths, strict=True):
        results.append(export_module(module, [_check_inputs(module, size) for size in CHECK_MAP_SIZES], file, format))
    return results


def _check_inputs(module: Any, size: tuple[int, int]) -> tuple[Tensor, ...]:
    """Return a random map of ``size``, and a random guide if ``module`` needs one."""
    channels, ratio = module.init_args["channels"], getattr(module, "ratio", 2)
    x = torch.randn(1, channels, *size)
    if not needs_guide(module):
        return (x,)
    guide_channels = module.init_args.get("guide_channels") or channels
    return x, torch.randn(1, guide_channels, ratio * size[0], ratio * size[1])


def _default_path(model: str, part: str, format: str) -> Path:
    folder = Path(model) if Path(model).is_dir() else Path(model).parent if Path(model).exists() else Path()
    return folder / f"{part}{EXPORT_FORMATS[format]}"
