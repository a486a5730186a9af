"""Any super-resolution network that the spandrel library knows (ESRGAN, SwinIR, HAT, DAT, SPAN …), from its weights alone."""

from pathlib import Path
from pickle import UnpicklingError

import torch.nn.functional as nnf
from safetensors import SafetensorError
from torch import Tensor, nn

from featlift.image_sr.degradation import pad_to_multiple


class SpandrelNetwork(nn.Module):
    """Somebody else's ``network`` under our contract.

    Pictures are padded to the ``size_divisor`` of pixels and the ``min_size`` side it insists on, and cut again.
    """

    def __init__(self, network: nn.Module, scale: int, size_divisor: int = 1, min_size: int = 1) -> None:
        super().__init__()
        self.network = network
        self.scale = scale
        self.size_divisor, self.min_size = size_divisor, min_size

    def forward(self, low: Tensor) -> Tensor:
        """``[B, 3, H, W]`` in 0…1 → ``[B, 3, scale·H, scale·W]``."""
        height, width = low.shape[-2:]
        missing = (0, max(0, self.min_size - width), 0, max(0, self.min_size - height))
        whole = pad_to_multiple(nnf.pad(low, missing, mode="replicate"), self.size_divisor)
        return self.network(whole)[..., : height * self.scale, : width * self.scale]


def load_spandrel(path: str | Path) -> SpandrelNetwork:
    """The network whose state dict lies at ``path``; its kind, size and scale are read from the names and shapes of its tensors.

    spandrel opens pickles with a reader that knows tensors only: no code of the file runs.

    Raises:
        ImportError: without the spandrel library.
        ValueError: if the file cannot be read, spandrel does not know the network, or it is no RGB super-resolution network.
    """
    try:
        from spandrel import ImageModelDescriptor, ModelLoader, UnsupportedModelError
    except ImportError as reason:
        raise ImportError("Third-party networks need the spandrel library: pip install 'featlift[sr]'") from reason
    try:
        found = ModelLoader().load_from_file(path)
    except UnsupportedModelError as reason:
        raise ValueError(
            f"spandrel recognizes no network in {path}; for D-DBPN and EDSR use super_resolver and load_published."
        ) from reason
    except (ValueError, RuntimeError, EOFError, UnpicklingError, SafetensorError) as reason:
        raise ValueError(
            f"{path} is no file of weights that can be read ({reason}); give a .pth or .safetensors."
        ) from reason
    if (
        not isinstance(found, ImageModelDescriptor)
        or (found.input_channels, found.output_channels) != (3, 3)
        or found.scale < 2
    ):
        raise ValueError(
            f"{path} holds {found.architecture.name} ({found.purpose}); a super-resolver takes and gives RGB and enlarges."
        )
    return SpandrelNetwork(
        found.model, found.scale, found.size_requirements.multiple_of, found.size_requirements.minimum
    )
