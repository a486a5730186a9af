"""``featlift export``: a run for other runtimes, each file checked against the network it was made from."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from featlift import checkpoints
from featlift.checkpoints.tensors import read_metadata
from featlift.commands.upgrade import load_detector_by_name
from featlift.data.dataset import ImageDataset
from featlift.deployment.export import EXPORT_FORMATS, ExportResult, export_detector, export_module
from featlift.detectors import get_extractor, get_interpolators
from featlift.papers import baseline

EXPORTABLE_PARTS = ("detector", "extractor", "interpolator")
CHECK_MAP_SIZES = ((12, 17), (25, 9))
"""Heights and widths in cells that an interpolator is checked on."""
CHECK_IMAGE_BLOCKS = ((4, 3), (5, 7))
"""Heights and widths that an extractor is checked on, in units of its ``divisible``."""


def export(
    model: str, format: str = "onnx", part: str = "detector", data: str = "", out: str = ""
) -> list[ExportResult]:
    """Write a detector, its extractor or its interpolators for other runtimes; nothing is written that answers differently.

    Beside each file stands a record (json): errors of the check, opset, versions.

    Args:
        model: a run folder or detector file, a detector of torchvision, or the file of an interpolator (G.safetensors).
        format: "onnx", "openvino", or "torch-export" (extractors and interpolators).
        part: "detector", "extractor" or "interpolator".
        data: for detectors, the pictures to check on: a COCO folder or "scenes"; by default those of the run.
        out: the file; by default beside the run.

    Returns:
        What was written: one file, or one for each interpolator of the pyramid.

    Raises:
        ValueError: for an unknown part or format, or if the check fails.
    """
    if part not in EXPORTABLE_PARTS:
        raise ValueError(f"Unknown part '{part}'; choose one of {', '.join(EXPORTABLE_PARTS)}.")
    if format not in EXPORT_FORMATS:
        raise ValueError(f"Unknown format '{format}'; choose one of {', '.join(EXPORT_FORMATS)}.")
    alone = _load_part(model)
    path = Path(out) if out else _default_path(model, "interpolator" if alone else part, format)
    made = (
        _export_interpolators([alone], path, format)
        if alone
        else _export_from_detector(model, part, path, format, data)
    )
    print("\n".join(map(str, made)))
    return made


@torch.no_grad()
def select_check_images(detector: nn.Module, dataset: ImageDataset) -> list[Tensor]:
    """Two pictures ``[3, H, W]``, sides multiples of 32: one in which ``detector`` finds something, and its upper two thirds.

    Raises:
        ValueError: if nothing is found in the first 20 of ``dataset``.
    """
    detector.eval()
    for i in range(min(20, len(dataset))):
        picture = dataset[i][0]
        height, width = (max(32, side // 32 * 32) for side in picture.shape[-2:])
        if len(detector([picture[:, :height, :width]])[0]["boxes"]):
            return [picture[:, :height, :width], picture[:, : max(32, height * 2 // 96 * 32), :width]]
    raise ValueError(
        "The detector finds nothing in 20 pictures, so nothing of what it does with objects could be written or checked; "
        "train it longer, or name other pictures with --data."
    )


def _load_part(model: str) -> Any:
    """The module in ``model`` if that is the file of a part, else None."""
    path = Path(model)
    if not path.is_file() or "class" not in read_metadata(path):
        return None
    return checkpoints.load(path)


def _export_from_detector(model: str, part: str, path: Path, format: str, data: str) -> list[ExportResult]:
    detector = load_detector_by_name(model)
    if part == "detector":
        return [export_detector(detector, select_check_images(detector, _check_dataset(model, data)), path, format)]
    if part == "interpolator":
        return _export_interpolators(list(get_interpolators(detector)), path, format)
    extractor = get_extractor(detector)
    step = extractor.size_divisible
    examples = [torch.rand(1, 3, height * step, width * step) for height, width in CHECK_IMAGE_BLOCKS]
    return [export_module(extractor, examples, path, format, step)]


def _check_dataset(model: str, data: str) -> ImageDataset:
    return baseline.build_dataset(
        baseline.load_data_config(model, data or ("" if Path(model).exists() else "scenes")), "val"
    )


def _export_interpolators(modules: list[nn.Module], path: Path, format: str) -> list[ExportResult]:
    names = [path] if len(modules) == 1 else [path.with_stem(f"{path.stem}{i}") for i in range(len(modules))]
    return [
        export_module(
            module, [torch.randn(1, module.arguments["channels"], *size) for size in CHECK_MAP_SIZES], name, format
        )  # type: ignore[index]
        for module, name in zip(modules, names, strict=True)
    ]


def _default_path(model: str, part: str, format: str) -> Path:
    folder = Path(model) if Path(model).is_dir() else Path(model).parent if Path(model).exists() else Path()
    return folder / f"{part}{EXPORT_FORMATS[format]}"
