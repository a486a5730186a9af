"""Full-reference image quality metrics: PSNR, SSIM, FSIM.

Images are RGB in 0…1, ``[3, H, W]`` or ``[B, 3, H, W]``, image and reference of equal size. "Y" is the luma of BT.601 (16…235), as in the
tables of EDSR, RCAN and D-DBPN; PSNR on Y is 1.3-1.9 dB above PSNR on RGB. ``border`` pixels are cropped at every side first (in those
tables, as many as the scale). Means are taken over images, not over the pixels of all images.
"""

from collections.abc import Iterable
from typing import Any

from torch import Tensor

from featlift.resolution import quantize_8bit, rgb_to_luma


def crop_border(images: Tensor, border: int) -> Tensor:
    """Crop ``border`` rows and columns of ``images [..., H, W]`` at each side.

    Raises:
        ValueError: If the result would be empty.
    """
    if min(images.shape[-2:]) <= 2 * border:
        raise ValueError(
            f"An image of {tuple(images.shape[-2:])} is too small to crop a border of {border} px; use a smaller border."
        )
    return images[..., border : images.shape[-2] - border, border : images.shape[-1] - border]


def psnr(image: Tensor, reference: Tensor, border: int = 0) -> float:
    """Peak signal-to-noise ratio in dB over all RGB values, for a peak of 1; infinite for equal images."""
    _check_same_size(image, reference)
    error = (crop_border(image, border).double() - crop_border(reference, border).double()).square().mean()
    return float(-10 * error.log10())


def psnr_y(image: Tensor, reference: Tensor, border: int = 0) -> float:
    """:func:`psnr` of the luma, the convention of super-resolution tables."""
    return psnr(rgb_to_luma(image), rgb_to_luma(reference), border)


def ssim(image: Tensor, reference: Tensor, border: int = 0) -> float:
    """Structural similarity of the luma by the piq library: an 11x11 Gaussian window of σ 1.5, no downsampling."""
    pair = _prepare_pair(rgb_to_luma(image), rgb_to_luma(reference), border)
    return float(_import_piq().ssim(*pair, data_range=1.0, downsample=False))


def fsim(image: Tensor, reference: Tensor, border: int = 0) -> float:
    """Feature similarity by the piq library: FSIM of the luma (not FSIMc), downscaled by ``round(min(H, W) / 256)`` first."""
    return float(_import_piq().fsim(*_prepare_pair(image, reference, border), data_range=1.0, chromatic=False))


def image_quality(pairs: Iterable[tuple[Tensor, Tensor]], border: int = 4) -> dict[str, float]:
    """Average ``"psnr_y"``, ``"psnr_rgb"`` (dB), ``"ssim"`` and ``"fsim"`` over ``(image, reference)`` pairs.

    Images are quantized to 8 bits first. ``border`` is cropped for all four metrics.

    Raises:
        ValueError: If there are no pairs.
    """
    rows = [_image_metrics(quantize_8bit(image), quantize_8bit(reference), border) for image, reference in pairs]
    if not rows:
        raise ValueError("No images to compare; give at least one (image, reference) pair.")
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}


def _image_metrics(image: Tensor, reference: Tensor, border: int) -> dict[str, float]:
    metrics = {"psnr_y": psnr_y, "psnr_rgb": psnr, "ssim": ssim, "fsim": fsim}
    return {name: metric(image, reference, border) for name, metric in metrics.items()}


def _prepare_pair(image: Tensor, reference: Tensor, border: int) -> tuple[Tensor, Tensor]:
    """Convert both images to piq's input format: ``[B, C, H, W]``, border cropped, clamped, float32."""
    _check_same_size(image, reference)
    image, reference = (crop_border(x, border).clamp(0, 1).float() for x in (image, reference))
    return (image, reference) if image.dim() == 4 else (image[None], reference[None])


def _check_same_size(image: Tensor, reference: Tensor) -> None:
    if image.shape != reference.shape:
        raise ValueError(
            f"Image and reference must have equal shapes; given {tuple(image.shape)} and {tuple(reference.shape)}."
        )


def _import_piq() -> Any:
    try:
        import piq
    except ImportError as error:
        raise ImportError("SSIM and FSIM need the piq library: pip install 'featlift[metrics]'") from error
    return piq
