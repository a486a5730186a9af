"""Export formats: suffixes, required packages, and the functions that write a file and run it."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from featlift.registry import check_choice

ONNX_OPSET = 18
EXPORT_FORMATS = {"torch-export": ".pt2", "onnx": ".onnx", "openvino": ".xml"}
"""Format → file suffix. OpenVINO has a second file for the weights, ``.bin``."""
REQUIRED_PACKAGES = {
    "torch-export": ("torch",),
    "onnx": ("torch", "onnx", "onnxscript", "onnxruntime"),
    "openvino": ("torch", "onnx", "onnxscript", "openvino"),
}
Outputs = dict[str, Tensor]
Runner = Callable[..., Outputs]


def _write_onnx(write: Callable[[Path], None], path: Path) -> Runner:
    import onnxruntime  # availability checked by validate_export_path

    write(path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    input_names = [entry.name for entry in session.get_inputs()]

    def run(*maps: Tensor) -> Outputs:
        feed = {name: x.contiguous().numpy() for name, x in zip(input_names, maps, strict=True)}
        return {name: torch.from_numpy(y) for name, y in zip(names, session.run(None, feed), strict=True)}

    return run


def _write_openvino(write: Callable[[Path], None], path: Path) -> Runner:
    """Convert from ONNX; inference in float32, since OpenVINO uses bfloat16 by default on processors that support it."""
    import openvino  # availability checked by validate_export_path

    onnx_path = path.with_suffix(".onnx")
    write(onnx_path)
    openvino.save_model(openvino.convert_model(onnx_path), path, compress_to_fp16=False)
    onnx_path.unlink()
    network = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    names = [output.get_any_name() for output in network.outputs]

    def run(*maps: Tensor) -> Outputs:
        outputs = network([x.contiguous().numpy() for x in maps]).values()
        return {name: torch.from_numpy(y.copy()) for name, y in zip(names, outputs, strict=True)}

    return run


FORMAT_WRITERS: dict[str, Callable[[Callable[[Path], None], Path], Runner]] = {
    "onnx": _write_onnx,
    "openvino": _write_openvino,
}
"""Format → function of an ONNX writer and an output path that writes the file and returns its runner."""


def validate_export_path(path: str | Path, format: str) -> Path:
    """Return the path; raise if the format is unknown, the suffix does not match or a package is missing."""
    check_choice(format, EXPORT_FORMATS, "format")
    if Path(path).suffix != EXPORT_FORMATS[format]:
        raise ValueError(f"The suffix of {format} is {EXPORT_FORMATS[format]}, not that of '{path}'.")
    for package in REQUIRED_PACKAGES[format]:
        if find_spec(package) is None:
            extra = "featlift[openvino]" if package == "openvino" else "featlift[export]"
            raise ImportError(f"{format} needs {package}: pip install '{extra}'")
    return Path(path)
