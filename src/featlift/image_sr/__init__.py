"""Image super-resolution networks: a small picture in, the same picture ``scale`` times as large out.

Every one has ``.scale`` and ``forward(low [B, 3, H, W] in 0…1) → [B, 3, scale·H, scale·W]``, RGB.
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
"""Name → what makes the network; all take ``scale`` first."""

SR_SCALES = (2, 3, 4, 8)


def super_resolver(name: str, scale: int = 4, **options: float) -> nn.Module:
    """The network called ``name`` in :data:`SUPER_RESOLVERS`, for ``scale`` 2, 3, 4 or 8; ``options`` are its class's own.

    Raises:
        ValueError: if the name or the scale is unknown.
    """
    if name not in SUPER_RESOLVERS:
        raise ValueError(f"Unknown super-resolver '{name}'; choose one of {', '.join(SUPER_RESOLVERS)}.")
    if scale not in SR_SCALES:
        raise ValueError(f"Scale {scale} is not offered; choose one of {', '.join(map(str, SR_SCALES))}.")
    return SUPER_RESOLVERS[name](scale, **options)
