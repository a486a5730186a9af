"""Export to ``torch.export``, ONNX and OpenVINO, with a parity check of each file against its PyTorch module.

Interpolators and extractors are exported by ``torch.export`` with dynamic height and width. Whole detectors, whose outputs have a dynamic
number of boxes, are exported by ONNX's older exporter, which traces one image.

A file that fails the check is not kept. ``x.onnx.json`` next to ``x.onnx`` records errors of the check, opset and versions.
"""

import copy
import json
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torchvision.ops import boxes

from featlift.deployment.export_errors import detection_error, relative_error
from featlift.deployment.export_formats import (
    FORMAT_WRITERS,
    ONNX_OPSET,
    REQUIRED_PACKAGES,
    Outputs,
    Runner,
    validate_export_path,
)
from featlift.deployment.optimize import restore

EXPORT_TOLERANCE = 1e-4
"""Largest allowed relative error."""


@dataclass(frozen=True)
class ExportResult:
    """An exported and checked file.

    Attributes:
        path: Path of the file.
        format: Key of :data:`EXPORT_FORMATS`.
        errors: "HxW" of each input of the check → largest relative error of its outputs.
        opset: ONNX opset, also for OpenVINO; None for torch.export.
        versions: Versions of the packages that wrote and checked the file.
    """

    path: Path
    format: str
    errors: dict[str, float]
    opset: int | None
    versions: dict[str, str]

    def __str__(self) -> str:
        """One line with file, errors and versions."""
        errors = ", ".join(f"{error:.0e} at {size}" for size, error in self.errors.items())
        versions = ", ".join(f"{name} {number}" for name, number in self.versions.items())
        return f"{self.path}: relative error {errors} ({versions})"


def export_module(
    module: nn.Module,
    examples: Sequence[Tensor | tuple[Tensor, ...]],
    path: str | Path,
    format: str = "onnx",
    size_divisor: int = 1,
) -> ExportResult:
    """Export an interpolator or an extractor with dynamic height and width, and check it on ``examples``.

    Args:
        module: Module ``[B, C, H, W]`` → a map, or a dict of maps. It is copied, in evaluation mode, to the CPU.
        examples: Two or more inputs of different sizes with equal B and C; the exporter uses the first. For an interpolator that needs a
            guide, tuples of a map and its guide, whose size is a multiple of that of the map.
        path: Output file, with the suffix of :data:`EXPORT_FORMATS`.
        format: Key of :data:`EXPORT_FORMATS`.
        size_divisor: Height and width are dynamic multiples of this (an extractor's ``size_divisible``).

    Raises:
        ValueError: If the format is unknown, the suffix does not match it, or an output differs by more than :data:`EXPORT_TOLERANCE`; no
            file is written then.
        ImportError: If the format needs a package that is not installed.
    """
    path = validate_export_path(path, format)
    frozen = export_copy(module)
    inputs = [_as_tuple(example) for example in examples]
    program = torch.export.export(frozen, inputs[0], dynamic_shapes=_dynamic_shapes(inputs[0], size_divisor))
    return write_program(frozen, program, inputs, ExportResult(path, format, {}, None, {}))


def write_program(
    frozen: nn.Module,
    program: torch.export.ExportedProgram,
    inputs: Sequence[tuple[Tensor, ...]],
    request: ExportResult,
) -> ExportResult:
    """Write the exported ``program`` of ``frozen`` to the path and in the format of ``request``, and check it on ``inputs``.

    Raises:
        ValueError: If an output differs by more than :data:`EXPORT_TOLERANCE`; no file is written then.
    """

    def onnx(unfinished: Path) -> None:
        names = list(_as_output_dict(frozen(*inputs[0])))
        torch.onnx.export(
            program,
            (),
            unfinished,
            input_names=["x", "guide"][: len(inputs[0])],
            output_names=names,
            opset_version=ONNX_OPSET,
            external_data=False,
            verbose=False,
        )

    def write(unfinished: Path) -> Runner:
        if request.format != "torch-export":
            return FORMAT_WRITERS[request.format](onnx, unfinished)
        torch.export.save(program, unfinished)
        return lambda *maps: _as_output_dict(torch.export.load(unfinished).module()(*maps))

    return _write_checked(lambda *maps: _as_output_dict(frozen(*maps)), write, inputs, request)


def export_detector(
    detector: nn.Module, images: Sequence[Tensor], path: str | Path, format: str = "onnx"
) -> ExportResult:
    """Export a whole detector: an image ``[3, H, W]`` in, boxes, labels and scores (and masks) out; dynamic H and W.

    Args:
        detector: Detector with torchvision's interface. It is copied, in evaluation mode, to the CPU.
        images: Two or more images of different sizes, in 0…1; the exporter traces the first, and all are checked. The detector must
            find at least one object in the first, or the trace lacks the operations on objects.
        path: Output file, with the suffix of :data:`EXPORT_FORMATS`.
        format: "onnx" or "openvino".

    Raises:
        ValueError: If the format is "torch-export", which does not support outputs of dynamic length, the suffix does not match, there are
            no detections in the first image, or an output differs by more than :data:`EXPORT_TOLERANCE`; no file is written then.
        ImportError: If the format needs a package that is not installed.
    """
    path = validate_export_path(path, format)
    if format == "torch-export":
        raise ValueError(
            "A whole detector can be exported to onnx or openvino only; use torch-export for its extractor."
        )
    frozen = export_copy(detector)
    with torch.no_grad():
        detections = frozen([images[0]])[0]
    if not len(detections["boxes"]):
        raise ValueError("There are no detections in the first image; give an image with objects.")

    def onnx(unfinished: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # tracing and deprecation warnings; the result is checked below
            torch.onnx.export(
                frozen,
                ([images[0]],),
                unfinished,
                dynamo=False,
                opset_version=ONNX_OPSET,
                input_names=["x"],
                output_names=list(detections),
                dynamic_axes={"x": {1: "height", 2: "width"}, **{name: {0: "objects"} for name in detections}},
            )

    return _write_checked(
        _with_batched_nms(lambda image: frozen([image])[0]),
        lambda unfinished: FORMAT_WRITERS[format](onnx, unfinished),
        [(image,) for image in images],
        ExportResult(path, format, {}, None, {}),
        detection_error,
    )


def _as_tuple(example: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return example if isinstance(example, tuple) else (example,)


def _dynamic_shapes(maps: Sequence[Tensor], size_divisor: int) -> tuple[dict[int, Any], ...]:
    """Return the dynamic height and width of each map: multiples of those of the first."""
    rows, columns = (torch.export.Dim(name, min=2, max=1024) for name in ("rows", "columns"))
    factors = [size_divisor * (x.shape[-2] // maps[0].shape[-2]) for x in maps]
    return tuple({2: factor * rows, 3: factor * columns} for factor in factors)


def export_copy(module: nn.Module) -> nn.Module:
    """Return a copy of ``module`` for inference: on the CPU, in evaluation mode, without gradients and optimizations."""
    return restore(copy.deepcopy(module)).eval().requires_grad_(False).cpu()


def _with_batched_nms(run: Runner) -> Runner:
    """Return ``run`` with the coordinate-offset form of torchvision's batched NMS, which the export uses.

    For more than 1,000 boxes torchvision applies NMS per class; the exported graph offsets the boxes by class and applies it once. The two
    round differently, so that a box whose overlap equals the threshold may be kept by only one of them.
    """

    def run_with_batched_nms(x: Tensor) -> Outputs:
        with patch.object(boxes, "_batched_nms_vanilla", boxes._batched_nms_coordinate_trick):
            return run(x)

    return run_with_batched_nms


def _write_checked(
    reference: Runner,
    write: Callable[[Path], Runner],
    inputs: Sequence[tuple[Tensor, ...]],
    request: ExportResult,
    error_fn: Callable[[Outputs, Outputs], float] = relative_error,
) -> ExportResult:
    """Write the file and its record if all outputs match the reference."""
    path = request.path
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".unfinished-") as folder:
        run = write(Path(folder) / path.name)
        with torch.inference_mode():
            errors = {"x".join(map(str, x[0].shape[-2:])): error_fn(run(*x), reference(*x)) for x in inputs}
        _check_errors(errors)
        opset = None if request.format == "torch-export" else ONNX_OPSET
        versions = {package: version(package) for package in REQUIRED_PACKAGES[request.format]}
        result = ExportResult(path, request.format, errors, opset, versions)
        record = Path(folder) / f"{path.name}.json"
        record.write_text(json.dumps(asdict(result) | {"path": path.name}, indent=1) + "\n")
        for file in Path(folder).iterdir():
            file.replace(path.parent / file.name)
    return result


def _check_errors(errors: Mapping[str, float]) -> None:
    worst = max(errors, key=lambda size: errors[size])
    if not errors[worst] <= EXPORT_TOLERANCE:
        raise ValueError(
            f"The outputs of the exported file differ: relative error {errors[worst]:.1e} at {worst}, "
            f"{EXPORT_TOLERANCE:.0e} is allowed. No file was written. (Errors by size: {errors})"
        )


def _as_output_dict(output: Any) -> Outputs:
    return dict(output) if isinstance(output, Mapping) else {"y": output}
