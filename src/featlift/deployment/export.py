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

from featlift.deployment.optimize import restore

ONNX_OPSET = 18
EXPORT_TOLERANCE = 1e-4
"""Largest allowed relative error."""
EXPORT_FORMATS = {"torch-export": ".pt2", "onnx": ".onnx", "openvino": ".xml"}
"""Format → file suffix. OpenVINO has a second file for the weights, ``.bin``."""
REQUIRED_PACKAGES = {
    "torch-export": ("torch",),
    "onnx": ("torch", "onnx", "onnxscript", "onnxruntime"),
    "openvino": ("torch", "onnx", "onnxscript", "openvino"),
}
Outputs = dict[str, Tensor]
Runner = Callable[[Tensor], Outputs]


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
    module: nn.Module, examples: Sequence[Tensor], path: str | Path, format: str = "onnx", size_divisor: int = 1
) -> ExportResult:
    """Export an interpolator or an extractor with dynamic height and width, and check it on ``examples``.

    Args:
        module: Module ``[B, C, H, W]`` → a map, or a dict of maps. It is copied, in evaluation mode, to the CPU.
        examples: Two or more inputs of different sizes with equal B and C; the exporter uses the first.
        path: Output file, with the suffix of :data:`EXPORT_FORMATS`.
        format: Key of :data:`EXPORT_FORMATS`.
        size_divisor: Height and width are dynamic multiples of this (an extractor's ``size_divisible``).

    Raises:
        ValueError: If the format is unknown, the suffix does not match it, or an output differs by more than :data:`EXPORT_TOLERANCE`; no
            file is written then.
        ImportError: If the format needs a package that is not installed.
    """
    path = _validate_path(path, format)
    frozen = _inference_copy(module)
    rows, columns = torch.export.Dim("rows", min=2, max=1024), torch.export.Dim("columns", min=2, max=1024)
    program = torch.export.export(
        frozen, (examples[0],), dynamic_shapes=({2: size_divisor * rows, 3: size_divisor * columns},)
    )

    def onnx(unfinished: Path) -> None:
        names = list(_as_output_dict(frozen(examples[0])))
        torch.onnx.export(
            program,
            (),
            unfinished,
            input_names=["x"],
            output_names=names,
            opset_version=ONNX_OPSET,
            external_data=False,
            verbose=False,
        )

    def write(unfinished: Path) -> Runner:
        if format != "torch-export":
            return FORMAT_WRITERS[format](onnx, unfinished)
        torch.export.save(program, unfinished)
        return lambda x: _as_output_dict(torch.export.load(unfinished).module()(x))

    return _write_checked(
        lambda x: _as_output_dict(frozen(x)), write, examples, ExportResult(path, format, {}, None, {})
    )


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
    path = _validate_path(path, format)
    if format == "torch-export":
        raise ValueError(
            "A whole detector can be exported to onnx or openvino only; use torch-export for its extractor."
        )
    frozen = _inference_copy(detector)
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
        images,
        ExportResult(path, format, {}, None, {}),
        detection_error,
    )


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


def _inference_copy(module: nn.Module) -> nn.Module:
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
    inputs: Sequence[Tensor],
    request: ExportResult,
    error_fn: Callable[[Outputs, Outputs], float] = relative_error,
) -> ExportResult:
    """Write the file and its record if all outputs match the reference."""
    path = request.path
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".unfinished-") as folder:
        run = write(Path(folder) / path.name)
        with torch.inference_mode():
            errors = {"x".join(map(str, x.shape[-2:])): error_fn(run(x), reference(x)) for x in inputs}
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


def _write_onnx(write: Callable[[Path], None], path: Path) -> Runner:
    import onnxruntime  # availability checked by _validate_path

    write(path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(x: Tensor) -> Outputs:
        return {
            name: torch.from_numpy(y)
            for name, y in zip(names, session.run(None, {"x": x.contiguous().numpy()}), strict=True)
        }

    return run


def _write_openvino(write: Callable[[Path], None], path: Path) -> Runner:
    """Convert from ONNX; inference in float32, since OpenVINO uses bfloat16 by default on processors that support it."""
    import openvino  # availability checked by _validate_path

    onnx_path = path.with_suffix(".onnx")
    write(onnx_path)
    openvino.save_model(openvino.convert_model(onnx_path), path, compress_to_fp16=False)
    onnx_path.unlink()
    network = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    names = [output.get_any_name() for output in network.outputs]

    def run(x: Tensor) -> Outputs:
        return {
            name: torch.from_numpy(y.copy())
            for name, y in zip(names, network([x.contiguous().numpy()]).values(), strict=True)
        }

    return run


FORMAT_WRITERS: dict[str, Callable[[Callable[[Path], None], Path], Runner]] = {
    "onnx": _write_onnx,
    "openvino": _write_openvino,
}
"""Format → function of an ONNX writer and an output path that writes the file and returns its runner."""


def _as_output_dict(output: Any) -> Outputs:
    return dict(output) if isinstance(output, Mapping) else {"y": output}


def _validate_path(path: str | Path, format: str) -> Path:
    """Return the path; raise if the format is unknown, the suffix does not match or a package is missing."""
    if format not in EXPORT_FORMATS:
        raise ValueError(f"Unknown format '{format}'; choose one of {', '.join(EXPORT_FORMATS)}.")
    if Path(path).suffix != EXPORT_FORMATS[format]:
        raise ValueError(f"The suffix of {format} is {EXPORT_FORMATS[format]}, not that of '{path}'.")
    for package in REQUIRED_PACKAGES[format]:
        try:
            __import__(package)
        except ImportError as error:
            extra = "featlift[openvino]" if package == "openvino" else "featlift[export]"
            raise ImportError(f"{format} needs {package}: pip install '{extra}'") from error
    return Path(path)
