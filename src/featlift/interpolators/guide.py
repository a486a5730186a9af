"""The guide of an interpolator: a map of the finer level, in a pyramid the lateral map to which the upsampled map is added.

Every interpolator is called as ``interpolator(x, guide)``. Those of :data:`featlift.interpolators.GUIDED_INTERPOLATORS` need the guide and
have the attribute ``needs_guide``; the others ignore it.
"""

from torch import Tensor, nn

from featlift.features import crop_or_pad


def needs_guide(module: nn.Module) -> bool:
    """Return whether the interpolator ``module`` cannot upsample without a guide."""
    return bool(getattr(module, "needs_guide", False))


def fit_guide(guide: Tensor | None, x: Tensor, interpolator: str, ratio: int = 2) -> Tensor:
    """Return ``guide`` cropped or padded to ``ratio`` times the size of ``x [B, C, H, W]``; fewer than ``ratio`` cells may be missing.

    Args:
        guide: Map ``[B, C', h, w]`` of the finer level.
        x: Map to upsample.
        interpolator: Name for the error message.
        ratio: Upsampling factor.

    Raises:
        ValueError: If there is no guide, or it has another size.
    """
    height, width = ratio * x.shape[-2], ratio * x.shape[-1]
    if guide is None:
        raise ValueError(
            f"{interpolator} also reads the finer level: call it as interpolator(x, guide) with guide [B, C, {height}, {width}], in a "
            "pyramid the lateral map. Where no finer map exists, choose an interpolator without a guide, such as 'lda-aqu' or 'dysample'."
        )
    return crop_or_pad(guide, (height, width), max_cells=ratio - 1)
