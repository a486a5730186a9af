"""FreqFusion (Chen et al., TPAMI 2024): fusion of a coarse and a fine map with predicted low-pass and high-pass filters.

Three parts: the adaptive low-pass filter (ALPF) generator smooths and upsamples the coarse map, the offset generator resamples it where a
neighbor is more similar to its surroundings, and the adaptive high-pass filter (AHPF) generator adds the high frequencies of the fine map.
"""

import math

import torch
from torch import Tensor, nn

from featlift.checkpoints.init_args import store_init_args
from featlift.interpolators.guide import fit_guide
from featlift.interpolators.reassembly import filter_cells, reassemble, shifted_maps, split_phases
from featlift.interpolators.sampling import at_least_float32, offset_points, sample_points

SIMILARITY_KERNEL, SIMILARITY_DILATION, CHANNELS_PER_NORM_GROUP = 3, 2, 8


class OffsetGenerator(nn.Module):
    """Offset generator: predicts sampling offsets from the coarse and the fine map and the cosine similarities to their neighbors.

    Args:
        channels: Number of channels of both compressed maps, a multiple of 8.
        groups: Number of channel groups with their own offsets.
    """

    phases: Tensor

    def __init__(self, channels: int, groups: int):
        super().__init__()
        self.groups = groups
        in_channels = channels + SIMILARITY_KERNEL**2 - 1
        self.norm = nn.GroupNorm(channels // CHANNELS_PER_NORM_GROUP, channels)
        self.norm_guide = nn.GroupNorm(channels // CHANNELS_PER_NORM_GROUP, channels)
        self.offset, self.scale = (nn.Conv2d(in_channels, 8 * groups, 3, padding=1) for _ in range(2))
        self.offset_guide, self.scale_guide = (nn.Conv2d(in_channels, 2 * groups, 3, padding=1) for _ in range(2))
        for convolution, std in (
            (self.offset, 0.001),
            (self.offset_guide, 0.001),
            (self.scale, 0.0),
            (self.scale_guide, 0.0),
        ):
            nn.init.normal_(convolution.weight, std=std)
            nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
        quarter = torch.tensor([-0.25, 0.25])
        y, x = torch.meshgrid(quarter, quarter, indexing="ij")
        self.register_buffer("phases", torch.stack([x, y]).view(1, 2, 1, 4, 1, 1), persistent=False)

    def forward(self, x: Tensor, guide: Tensor) -> Tensor:
        """``[B, C', H, W]`` and ``[B, C', 2H, 2W]`` → sampling points ``[B, 2, groups, 2H, 2W]`` in cells of ``x``."""
        coarse, fine = _with_similarities(self.norm(x)), _with_similarities(self.norm_guide(guide))
        offsets = self.offset(coarse).unflatten(1, (-1, 4)) + split_phases(self.offset_guide(fine))
        scales = self.scale(coarse).unflatten(1, (-1, 4)) + split_phases(self.scale_guide(fine))
        offsets = (offsets * scales.sigmoid()).unflatten(1, (2, self.groups))
        return offset_points(at_least_float32(offsets) + self.phases)


@store_init_args()
class FreqFusion(nn.Module):
    """FreqFusion as in the authors' detectors; 104,690 parameters at 256 channels.

    The pyramid adds the returned map to the lateral map g. The paper's fusion is ``(g + AHPF(g)) + resampled(ALPF(x))``; the returned map
    is its last two terms, so that the sum is the paper's.

    Differences to the published code: the coordinates are at least float32; the layers of the offset generator keep their small initial
    weights, which the published code overwrites.

    Args:
        channels: Number of channels C, a multiple of ``groups``.
        compressed_channels: Channels from which the filters are predicted, a multiple of 8; 64 in the authors' detectors.
        low_pass_kernel: Side of the low-pass filters.
        high_pass_kernel: Side of the high-pass filters.
        groups: Number of channel groups with their own sampling offsets.

    Raises:
        ValueError: If ``groups`` does not divide ``channels``, or ``compressed_channels`` is no multiple of 8.
    """

    needs_guide = True

    def __init__(
        self,
        channels: int,
        compressed_channels: int = 64,
        low_pass_kernel: int = 5,
        high_pass_kernel: int = 3,
        groups: int = 4,
    ):
        super().__init__()
        if channels % groups or compressed_channels % CHANNELS_PER_NORM_GROUP:
            raise ValueError(
                f"{channels} channels cannot be split into {groups} groups, or compressed_channels {compressed_channels} is no multiple of "
                f"{CHANNELS_PER_NORM_GROUP}; set groups to a divisor of {channels} and compressed_channels to, e.g., 64."
            )
        self.compress = nn.Conv2d(channels, compressed_channels, 1)
        self.compress_guide = nn.Conv2d(channels, compressed_channels, 1)
        self.low_pass = nn.Conv2d(compressed_channels, low_pass_kernel**2, 3, padding=1)
        self.high_pass = nn.Conv2d(compressed_channels, high_pass_kernel**2, 3, padding=1)
        self.offset_generator = OffsetGenerator(compressed_channels, groups)
        for convolution in (self.compress, self.compress_guide, self.low_pass, self.high_pass):
            nn.init.xavier_uniform_(convolution.weight)
            nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
        for convolution in (self.low_pass, self.high_pass):
            nn.init.normal_(convolution.weight, std=0.001)

    def forward(self, x: Tensor, guide: Tensor | None = None) -> Tensor:
        """``[B, C, H, W]`` and a guide ``[B, C, 2H, 2W]`` → ``[B, C, 2H, 2W]``: the smoothed map plus the high frequencies of the guide.

        Raises:
            ValueError: If there is no guide, or its size does not fit.
        """
        low, high = self.components(x, fit_guide(guide, x, "FreqFusion"))
        return low + high

    def components(self, x: Tensor, guide: Tensor) -> tuple[Tensor, Tensor]:
        """Return the smoothed and resampled ``x`` and the high frequencies of ``guide``, each ``[B, C, 2H, 2W]``.

        The filters are predicted in two steps: filters of the guide alone sharpen it and upsample the logits of the coarse map, whose sum
        with those of the guide gives the final filters.
        """
        coarse, fine = self.compress(x), self.compress_guide(guide)
        high_logits = self.high_pass(fine)
        fine = 2 * fine - filter_cells(fine, low_pass_weights(high_logits))
        low_logits = self.low_pass(fine)
        low_logits = low_logits + reassemble(self.low_pass(coarse), low_pass_weights(low_logits))
        weights = low_pass_weights(low_logits)
        high_logits = high_logits + reassemble(self.high_pass(coarse), weights)
        points = self.offset_generator(coarse, fine)
        low = sample_points(reassemble(x, weights), 2 * points)  # 2: points in cells of the upsampled map
        return low, guide - filter_cells(guide, low_pass_weights(high_logits))


def low_pass_weights(logits: Tensor) -> Tensor:
    """Return filters with sum 1, the softmax times a Hamming window: ``[B, kernel², H, W]`` → ``[B, kernel², H, W]``."""
    kernel = round(logits.shape[1] ** 0.5)
    # as torch.hamming_window, which ONNX's exporter does not convert
    cells = torch.arange(kernel, device=logits.device, dtype=logits.dtype)
    window = 0.54 - 0.46 * (cells * (2 * math.pi / max(kernel - 1, 1))).cos()
    weights = logits.softmax(dim=1) * torch.outer(window, window).view(1, -1, 1, 1)
    return weights / weights.sum(dim=1, keepdim=True)


def _with_similarities(x: Tensor) -> Tensor:
    """Append the cosine similarities of each cell to its 8 neighbors at a distance of 2 (zero beyond the border)."""
    unit = x / x.norm(dim=1, keepdim=True).clamp(min=1e-8)
    neighbors = shifted_maps(unit, SIMILARITY_KERNEL, SIMILARITY_DILATION)
    del neighbors[SIMILARITY_KERNEL**2 // 2]
    return torch.cat([x, *((unit * y).sum(1, keepdim=True) for y in neighbors)], dim=1)
