"""Super-resolution networks of the spandrel library (ESRGAN, SwinIR, HAT, DAT, SPAN …), loaded from their weights."""

from pathlib import Path
from pickle import UnpicklingError

import torch.nn.functional as nnf
from safetensors import SafetensorError
from torch import Tensor, nn

from featlift.image_sr.degradation import pad_to_multiple


class SpandrelNetwork(nn.Module):
    """Adapter of a third-party ``network`` to FeatLift's interface.

    Images are padded to multiples of ``size_divisor`` and sides of at least ``min_size`` px; the output is cropped.
    """

    def __init__(self, network: nn.Module, scale: int, size_divisor: int = 1, min_size: int = 1) -> None:
        super().__init__()
        self.network = network
        self.scale = scale
        self.size_divisor, self.min_size = size_divisor, min_size

    def forward(self, low: Tensor) -> Tensor:
        """``[B, 3, H, W]`` in 0…1 → ``[B, 3, scale·H, scale·W]``."""
        height, width = low.shape[-2:]
        padding = (0, max(0, self.min_size - width), 0, max(0, self.min_size - height))
        padded = pad_to_multiple(nnf.pad(low, padding, mode="replicate"), self.size_divisor)
        return self.network(padded)[..., : height * self.scale, : width * self.scale]


def load_spandrel(path: str | Path) -> SpandrelNetwork:
    """Load the network whose state dict is at ``path``; architecture, size and scale are inferred from its keys and shapes.

    spandrel unpickles tensors only: no code in the file is executed.

    Raises:
        ImportError: If the spandrel library is not installed.
        ValueError: If the file cannot be read, spandrel does not recognize the network, or it is no RGB super-resolution network.
    """
    try:
        from spandrel import ImageModelDescriptor, ModelLoader, UnsupportedModelError
    except ImportError as error:
        raise ImportError("Third-party networks need the spandrel library: pip install 'featlift[sr]'") from error
    try:
        descriptor = ModelLoader().load_from_file(path)
    except UnsupportedModelError as error:
        raise ValueError(f"{path} holds no network of featlift.image_sr and none that spandrel recognizes.") from error
    except (ValueError, RuntimeError, EOFError, UnpicklingError, SafetensorError) as error:
        raise ValueError(f"{path} is not a readable file of weights ({error}); give a .pth or .safetensors.") from error
    if (
        not isinstance(descriptor, ImageModelDescriptor)
        or (descriptor.input_channels, descriptor.output_channels) != (3, 3)
        or descriptor.scale < 2
    ):
        raise ValueError(
            f"{path} holds {descriptor.architecture.name} ({descriptor.purpose}); a super-resolver has RGB input and output "
            "and a scale of at least 2."
        )
    return SpandrelNetwork(
        descriptor.model,
        descriptor.scale,
        descriptor.size_requirements.multiple_of,
        descriptor.size_requirements.minimum,
    )
