"""Image super-resolution networks, which upscale RGB images by a factor of ``scale``.

Every network has ``.scale`` and ``forward(low [B, 3, H, W] in 0…1) → [B, 3, scale·H, scale·W]``.
"""

from collections.abc import Callable
from functools import partial

from torch import nn

from featlift.image_sr.bicubic import BicubicSR
from featlift.image_sr.compact import CompactSR
from featlift.image_sr.dbpn import DDBPN
from featlift.image_sr.edsr import EDSR
from featlift.image_sr.rcan import RCAN
from featlift.image_sr.srcnn import SRCNN
from featlift.image_sr.vdsr import VDSR
from featlift.registry import check_choice

SUPER_RESOLVERS: dict[str, Callable[..., nn.Module]] = {
    "bicubic": BicubicSR,
    "compact": CompactSR,
    "srcnn": SRCNN,
    "srcnn-915": partial(SRCNN, middle_kernel=1),
    "vdsr": VDSR,
    "edsr": EDSR,
    "edsr-baseline": partial(EDSR, blocks=16, width=64, res_scale=1.0),
    "rcan": RCAN,
    "d-dbpn": DDBPN,
    "dbpnll": partial(DDBPN, stages=10),
}
"""Name → constructor; the first parameter is ``scale``."""

SR_SCALES = (2, 3, 4, 8)


def super_resolver(name: str, scale: int = 4, **options: float) -> nn.Module:
    """Create the network ``name`` of :data:`SUPER_RESOLVERS` for ``scale`` 2, 3, 4 or 8; ``options`` are passed to its class.

    Raises:
        ValueError: If the name or the scale is unknown.
    """
    check_choice(name, SUPER_RESOLVERS, "super-resolver")
    if scale not in SR_SCALES:
        raise ValueError(f"Scale {scale} is not supported; choose one of {', '.join(map(str, SR_SCALES))}.")
    return SUPER_RESOLVERS[name](scale, **options)
