"""Export of a whole network of any library: one image size, all output tensors."""

from pathlib import Path

import torch
from torch import Tensor, nn

from featlift.deployment.export import ExportResult, export_copy, write_program
from featlift.deployment.export_formats import validate_export_path
from featlift.features import flatten_tensors
from featlift.upgrading.extended_level import disable_windows


class TensorOutputs(nn.Module):
    """A network whose outputs are named: y0, y1, … for the tensors in nested lists, tuples and dictionaries.

    Args:
        network: ``[B, 3, H, W]`` → anything that contains tensors.
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """``[B, 3, H, W]`` → ``{"y0": tensor, …}``."""
        return {f"y{index}": y for index, y in enumerate(flatten_tensors(self.network(x))) if y.is_floating_point()}


def export_network(
    network: nn.Module, image_size: tuple[int, int], path: str | Path, format: str = "onnx"
) -> ExportResult:
    """Export ``network`` for one image of ``image_size`` (H, W), and check the file on two images of noise.

    Args:
        network: ``[B, 3, H, W]`` → tensors in nested lists, tuples and dictionaries. It is copied, in evaluation mode, to the CPU. An
            extended level is exported without windows.
        image_size: Height and width in pixels.
        path: Output file, with the suffix of :data:`~featlift.deployment.export_formats.EXPORT_FORMATS`.
        format: Key of ``EXPORT_FORMATS``.

    Raises:
        ValueError: If the format is unknown, the suffix does not match it, or an output differs; no file is written then.
        ImportError: If the format needs a package that is not installed.
    """
    path = validate_export_path(path, format)
    frozen = TensorOutputs(export_copy(network)).eval()
    disable_windows(frozen)
    examples = [torch.rand(1, 3, *image_size, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)]
    with torch.no_grad():
        frozen(examples[0])  # networks that store sizes, such as YOLO's anchors, do it now
    program = torch.export.export(frozen, (examples[0],))
    inputs = [(example,) for example in examples]
    return write_program(frozen, program, inputs, ExportResult(path, format, {}, None, {}))
