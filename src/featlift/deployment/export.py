"""Out of PyTorch: ``torch.export``, ONNX and OpenVINO, each file checked against the network it was made from before it gets its name.

Two ways, because one does not do everything: maps and features (interpolators, extractors) go through ``torch.export``, with free
height and width; whole detectors, whose lists of boxes have no fixed length, through ONNX's older exporter, which follows one picture.

A file that answers differently is not left behind. Beside ``x.onnx`` stands ``x.onnx.json``: errors of the check, opset, versions.
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
"""The largest relative error that is let through."""
EXPORT_FORMATS = {"torch-export": ".pt2", "onnx": ".onnx", "openvino": ".xml"}
"""Format → how its files end. OpenVINO's weights are in a second one, ``.bin``."""
REQUIRED_PACKAGES = {
    "torch-export": ("torch",),
    "onnx": ("torch", "onnx", "onnxscript", "onnxruntime"),
    "openvino": ("torch", "onnx", "onnxscript", "openvino"),
}
Outputs = dict[str, Tensor]
Runner = Callable[[Tensor], Outputs]


@dataclass(frozen=True)
class ExportResult:
    """A file that was made and checked.

    Attributes:
        path: of the file.
        format: a name of :data:`EXPORT_FORMATS`.
        errors: "HxW" of each picture or map of the check → largest relative error of its answers.
        opset: of ONNX, through which OpenVINO's files go too; None for torch.export.
        versions: of the packages that made and checked it.
    """

    path: Path
    format: str
    errors: dict[str, float]
    opset: int | None
    versions: dict[str, str]

    def __str__(self) -> str:
        """One line: file, errors, versions."""
        checked = ", ".join(f"{error:.0e} at {size}" for size, error in self.errors.items())
        made = ", ".join(f"{name} {number}" for name, number in self.versions.items())
        return f"{self.path}: relative error {checked} ({made})"


def export_module(
    module: nn.Module, examples: Sequence[Tensor], path: str | Path, format: str = "onnx", size_divisor: int = 1
) -> ExportResult:
    """Write an interpolator or an extractor for maps or pictures of any height and width, and check it on ``examples``.

    Args:
        module: ``[B, C, H, W]`` → a map, or a dict of maps. It is copied, in evaluation mode, to the CPU.
        examples: two or more inputs of different sizes and one B and C; the first is what the exporter looks at.
        path: of the new file, with the ending of :data:`EXPORT_FORMATS`.
        format: a name of :data:`EXPORT_FORMATS`.
        size_divisor: height and width are free multiples of this (an extractor's ``divisible``).

    Raises:
        ValueError: for an unknown format or another ending, or an answer that is off by more than :data:`EXPORT_TOLERANCE`: then there is no file.
        ImportError: if the format needs a package that is not there.
    """
    path = _validate_path(path, format)
    still = _inference_copy(module)
    rows, columns = torch.export.Dim("rows", min=2, max=1024), torch.export.Dim("columns", min=2, max=1024)
    program = torch.export.export(
        still, (examples[0],), dynamic_shapes=({2: size_divisor * rows, 3: size_divisor * columns},)
    )

    def onnx(unfinished: Path) -> None:
        names = list(_as_output_dict(still(examples[0])))
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
        lambda x: _as_output_dict(still(x)), write, examples, ExportResult(path, format, {}, None, {})
    )


def export_detector(
    detector: nn.Module, images: Sequence[Tensor], path: str | Path, format: str = "onnx"
) -> ExportResult:
    """Write a whole detector: a picture ``[3, H, W]`` in, boxes, labels and scores (and masks) out; any H and W.

    Args:
        detector: torchvision's contract. It is copied, in evaluation mode, to the CPU.
        images: two or more of different sizes, in 0…1; the first is what the exporter follows, and all are checked. The first must show
            at least one object, or the exporter sees none of what is done with objects.
        path: of the new file, with the ending of :data:`EXPORT_FORMATS`.
        format: "onnx" or "openvino".

    Raises:
        ValueError: for "torch-export", which has no lists of free length; for another ending; if nothing is found in the first picture;
            or if an answer is off by more than :data:`EXPORT_TOLERANCE`: then there is no file.
        ImportError: if the format needs a package that is not there.
    """
    path = _validate_path(path, format)
    if format == "torch-export":
        raise ValueError(
            "A whole detector can be written as onnx or openvino only; torch-export can hold its extractor."
        )
    still = _inference_copy(detector)
    with torch.no_grad():
        found = still([images[0]])[0]
    if not len(found["boxes"]):
        raise ValueError("The detector finds nothing in the first picture; give one in which it finds something.")

    def onnx(unfinished: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of tracing and of the exporter's age; what they warn of is checked below
            torch.onnx.export(
                still,
                ([images[0]],),
                unfinished,
                dynamo=False,
                opset_version=ONNX_OPSET,
                input_names=["x"],
                output_names=list(found),
                dynamic_axes={"x": {1: "height", 2: "width"}, **{name: {0: "objects"} for name in found}},
            )

    return _write_checked(
        _with_batched_nms(lambda picture: still([picture])[0]),
        lambda unfinished: FORMAT_WRITERS[format](onnx, unfinished),
        images,
        ExportResult(path, format, {}, None, {}),
        detection_error,
    )


def relative_error(outputs: Outputs, expected: Outputs) -> float:
    """Largest norm of a difference over the norm of what was expected; infinite if names or shapes differ."""
    if [(name, y.shape) for name, y in outputs.items()] != [(name, y.shape) for name, y in expected.items()]:
        return float("inf")
    return max(_relative_norm(outputs[name], y) for name, y in expected.items())


def detection_error(outputs: Outputs, expected: Outputs) -> float:
    """How far the objects of two answers are apart, whatever their order: the largest distance of one to its nearest in the other.

    Boxes ``[N, 4]`` count relative to the largest coordinate, scores as they are, masks ``[N, 1, H, W]`` relative to their norm; another
    label is 1 apart or more. Infinite if the numbers of objects differ.
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
    """``run`` with torchvision's other form of non-maximum suppression, which is the one that is exported.

    Beyond 1,000 boxes torchvision goes class by class; an exported graph shifts the classes apart and goes through them at once. The two
    round differently, so that in some pictures a box that overlaps by just the threshold is kept by one of them alone.
    """

    def runs(x: Tensor) -> Outputs:
        with patch.object(boxes, "_batched_nms_vanilla", boxes._batched_nms_coordinate_trick):
            return run(x)

    return runs


def _write_checked(
    reference: Runner,
    write: Callable[[Path], Runner],
    inputs: Sequence[Tensor],
    request: ExportResult,
    error_fn: Callable[[Outputs, Outputs], float] = relative_error,
) -> ExportResult:
    """The file under its name, if all answers are as they were; its record beside it."""
    path = request.path
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".unfinished-") as folder:
        run = write(Path(folder) / path.name)
        with torch.inference_mode():
            errors = {"x".join(map(str, x.shape[-2:])): error_fn(run(x), reference(x)) for x in inputs}
        _check_errors(errors)
        opset = None if request.format == "torch-export" else ONNX_OPSET
        versions = {package: version(package) for package in REQUIRED_PACKAGES[request.format]}
        made = ExportResult(path, request.format, errors, opset, versions)
        record = Path(folder) / f"{path.name}.json"
        record.write_text(json.dumps(asdict(made) | {"path": path.name}, indent=1) + "\n")
        for file in Path(folder).iterdir():
            file.replace(path.parent / file.name)
    return made


def _check_errors(errors: Mapping[str, float]) -> None:
    worst = max(errors, key=lambda size: errors[size])
    if not errors[worst] <= EXPORT_TOLERANCE:
        raise ValueError(
            f"The exported network answers differently: relative error {errors[worst]:.1e} at {worst}, "
            f"{EXPORT_TOLERANCE:.0e} is allowed. No file was left. (Checked: {errors})"
        )


def _write_onnx(write: Callable[[Path], None], path: Path) -> Runner:
    import onnxruntime  # _allowed has looked for it

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
    """Through ONNX; in float32 throughout, which OpenVINO would otherwise round to bfloat16 where the processor has it."""
    import openvino  # _allowed has looked for it

    between = path.with_suffix(".onnx")
    write(between)
    openvino.save_model(openvino.convert_model(between), path, compress_to_fp16=False)
    between.unlink()
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
"""Format → what makes of "write ONNX here" and a path the file, and returns how to run it."""


def _as_output_dict(output: Any) -> Outputs:
    return dict(output) if isinstance(output, Mapping) else {"y": output}


def _validate_path(path: str | Path, format: str) -> Path:
    """The path, if there is such a format, the file ends as its files do, and its packages are there."""
    if format not in EXPORT_FORMATS:
        raise ValueError(f"Unknown format '{format}'; choose one of {', '.join(EXPORT_FORMATS)}.")
    if Path(path).suffix != EXPORT_FORMATS[format]:
        raise ValueError(f"A file of {format} ends in {EXPORT_FORMATS[format]}, and '{path}' does not.")
    for package in REQUIRED_PACKAGES[format]:
        try:
            __import__(package)
        except ImportError as error:
            extra = "featlift[openvino]" if package == "openvino" else "featlift[export]"
            raise ImportError(f"{format} needs {package}: pip install '{extra}'") from error
    return Path(path)
