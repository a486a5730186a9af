"""How close a picture is to the original: PSNR, SSIM, FSIM.

Pictures are RGB in 0…1, ``[3, H, W]`` or ``[B, 3, H, W]``, both of one size. "Y" is the luma of BT.601 (16…235), as the tables of EDSR,
RCAN and D-DBPN have it; it is 1.3-1.9 dB above the PSNR of RGB. ``border`` pixels are cut at every side first: those tables cut as many
as the scale. Means are taken over pictures, not over pixels of all pictures.
"""

from collections.abc import Iterable
from typing import Any

from torch import Tensor

_LUMA_WEIGHTS = (65.481, 128.553, 24.966)


def rgb_to_luma(images: Tensor) -> Tensor:
    """The Y of ``images [..., 3, H, W]`` in 16/255 … 235/255, ``[..., 1, H, W]``."""
    weights = images.new_tensor(_LUMA_WEIGHTS)[:, None, None]
    return ((images * weights).sum(dim=-3, keepdim=True) + 16) / 255


def crop_border(images: Tensor, border: int) -> Tensor:
    """``images`` without ``border`` rows and columns at each side.

    Raises:
        ValueError: if nothing would be left.
    """
    if min(images.shape[-2:]) <= 2 * border:
        raise ValueError(f"A picture of {tuple(images.shape[-2:])} has nothing left inside a border of {border} px.")
    return images[..., border : images.shape[-2] - border, border : images.shape[-1] - border]


def psnr(image: Tensor, reference: Tensor, border: int = 0) -> float:
    """Peak signal-to-noise ratio in dB over all RGB values, for a peak of 1; infinite for equal pictures."""
    _check_same_size(image, reference)
    error = (crop_border(image, border).double() - crop_border(reference, border).double()).square().mean()
    return float(-10 * error.log10())


def psnr_y(image: Tensor, reference: Tensor, border: int = 0) -> float:
    """:func:`psnr` of the luma alone, the convention of super-resolution tables."""
    return psnr(rgb_to_luma(image), rgb_to_luma(reference), border)


def ssim(image: Tensor, reference: Tensor, border: int = 0) -> float:
    """Structural similarity of the luma by the piq library: an 11x11 Gaussian window of σ 1.5, no down-sampling."""
    pair = _prepare_pair(rgb_to_luma(image), rgb_to_luma(reference), border)
    return float(_import_piq().ssim(*pair, data_range=1.0, downsample=False))


def fsim(image: Tensor, reference: Tensor, border: int = 0) -> float:
    """Feature similarity by the piq library: FSIM, of luma alone (not FSIMc), reduced by ``round(min(H, W) / 256)`` first."""
    return float(_import_piq().fsim(*_prepare_pair(image, reference, border), data_range=1.0, chromatic=False))


def image_quality(pairs: Iterable[tuple[Tensor, Tensor]], border: int = 4) -> dict[str, float]:
    """The means over ``(image, original)`` pairs of ``"psnr_y"``, ``"psnr_rgb"`` (dB), ``"ssim"`` and ``"fsim"``.

    Pictures are compared as 8-bit files would keep them. ``border`` is cut for all four.

    Raises:
        ValueError: without pairs.
    """
    rows = [_image_metrics(_quantize_8bit(image), _quantize_8bit(original), border) for image, original in pairs]
    if not rows:
        raise ValueError("No pictures to compare.")
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}


def _image_metrics(image: Tensor, reference: Tensor, border: int) -> dict[str, float]:
    measures = {"psnr_y": psnr_y, "psnr_rgb": psnr, "ssim": ssim, "fsim": fsim}
    return {name: measure(image, reference, border) for name, measure in measures.items()}


def _quantize_8bit(image: Tensor) -> Tensor:
    return (image.clamp(0, 1) * 255).round() / 255


def _prepare_pair(image: Tensor, reference: Tensor, border: int) -> tuple[Tensor, Tensor]:
    """Both as ``[B, C, H, W]`` without their border, as piq wants them."""
    _check_same_size(image, reference)
    image, reference = (crop_border(x, border).clamp(0, 1).float() for x in (image, reference))
    return (image, reference) if image.dim() == 4 else (image[None], reference[None])


def _check_same_size(image: Tensor, reference: Tensor) -> None:
    if image.shape != reference.shape:
        raise ValueError(
            f"Pictures of one size are needed; these are {tuple(image.shape)} and {tuple(reference.shape)}."
        )


def _import_piq() -> Any:
    try:
        import piq
    except ImportError as reason:
        raise ImportError("SSIM and FSIM need the piq library: pip install 'featlift[metrics]'") from reason
    return piq
