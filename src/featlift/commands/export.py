"""``featlift export``: export a run for other runtimes; each file is verified against the PyTorch module."""

from featlift.deployment.export import ExportResult
from featlift.deployment.export_parts import export_part


def export(
    model: str, format: str = "onnx", part: str = "detector", data: str = "", out: str = ""
) -> list[ExportResult]:
    """Export a detector, its extractor or its interpolators for other runtimes; a file whose outputs differ is not written.

    The export and its verification run on the CPU. A JSON file next to each exported file lists the numerical errors, opset and versions.

    Args:
        model: Run folder, detector file, name of a torchvision detector, or file of an interpolator (G.safetensors); for a whole network
            of another library, at 640x640 px: hf:FOLDER_OR_ID, ultralytics:yolo11n.yaml, torchvision:NAME, timm:NAME, FILE.py:FUNCTION.
        format: Format: "onnx", "openvino", or "torch-export" (extractors and interpolators only).
        part: Part to export: "detector", "extractor" or "interpolator".
        data: Images that verify a detector: a COCO folder or "scenes"; default: the run's data.
        out: Output file; default: in the run folder.

    Returns:
        The exported files: one, or one for each interpolator of the pyramid.

    Raises:
        ValueError: If the part or format is unknown, or the verification fails.
    """
    results = export_part(model, format, part, data, out)
    print("\n".join(map(str, results)))
    return results
