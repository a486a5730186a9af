"""An image upscaled by bicubic interpolation and by a network, with the time of both."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from featlift.deployment.upscaling import UpscaleOptions, load_super_resolver_by_name, prepare_super_resolver
from featlift.device import resolve_device, synchronize_cuda
from featlift.image_sr import super_resolver


@dataclass(frozen=True)
class Upscaled:
    """An upscaled image ``[3, s·H, s·W]`` in 0…1 and the milliseconds of a forward pass."""

    image: Tensor
    milliseconds: float


class UpscalingComparison:
    """Bicubic interpolation and the network ``model`` of `featlift.deployment.upscaling`, on the same images.

    Args:
        model: Run folder or file, as of ``featlift upscale``.
        device: Device: "auto" (a GPU if available), "cpu" or "cuda".
        tile_size: Side of the network's tiles in pixels of the input image.
    """

    def __init__(self, model: str, device: str = "auto", tile_size: int = UpscaleOptions.tile_size) -> None:
        network = load_super_resolver_by_name(model)
        self.device = resolve_device(device)
        self.scale: int = network.scale  # type: ignore[assignment]
        options = UpscaleOptions(device=device, tile_size=tile_size, precision="fp32")
        example = torch.zeros(3, 8, 8)
        self.bicubic = super_resolver("bicubic", self.scale).to(self.device)
        self.network = prepare_super_resolver(network, options, example)

    def __call__(self, image: Tensor) -> dict[str, Upscaled]:
        """Upscale ``image [3, H, W]`` in 0…1 with "bicubic" and "network"."""
        low = image[None].to(self.device)
        return {name: _upscale(each, low) for name, each in (("bicubic", self.bicubic), ("network", self.network))}


@torch.inference_mode()
def _upscale(network: Callable[[Tensor], Tensor], low: Tensor) -> Upscaled:
    network(low[..., :16, :16])  # the first call also prepares kernels
    synchronize_cuda()
    start = time.perf_counter()
    high = network(low)
    synchronize_cuda()
    return Upscaled(high[0].clamp(0, 1).cpu(), 1e3 * (time.perf_counter() - start))
