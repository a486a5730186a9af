"""Calls of ``torch.nn.functional.interpolate``: their arguments, and what tells the calls of one ``forward`` apart at any image size.

A call is recognized by the running module, its :class:`CallSignature` and its number among the calls of that signature. Neither sizes nor
positions in the source code are used, so the same holds for every image size and for compiled, exported and traced networks.
"""

from typing import Any, NamedTuple

from torch import Tensor

ARGUMENTS = ("input", "size", "scale_factor", "mode", "align_corners", "recompute_scale_factor", "antialias")


class CallSignature(NamedTuple):
    """Properties of a call that do not depend on the image size.

    Attributes:
        mode: Interpolation mode.
        align_corners: As passed.
        by_scale: Whether a scale factor was passed, and no size.
        channels: Number of channels C.
    """

    mode: str
    align_corners: bool | None
    by_scale: bool
    channels: int


CallKey = tuple[CallSignature, int]
"""Signature, and number of the call among those with the same signature in one run of a module."""


def bind_interpolate(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of ``interpolate`` by name."""
    return {**dict(zip(ARGUMENTS, args, strict=False)), **kwargs}


def call_signature(arguments: dict[str, Any]) -> CallSignature:
    """Return the signature of a call with these arguments, whose input is ``[B, C, H, W]``."""
    return CallSignature(
        arguments.get("mode", "nearest"),
        arguments.get("align_corners"),
        arguments.get("scale_factor") is not None,
        int(arguments["input"].shape[1]),
    )


def is_2x_size(in_size: tuple[int, ...], out_size: tuple[int, ...]) -> bool:
    """Return whether each side of ``out_size`` is twice that of ``in_size``, up to one cell."""
    return all(abs(out_side - 2 * in_side) <= 1 for in_side, out_side in zip(in_size, out_size, strict=True))


def is_feature_map(x: Tensor) -> bool:
    """Return whether ``x`` is a floating-point ``[B, C, H, W]``."""
    return x.dim() == 4 and x.is_floating_point()
