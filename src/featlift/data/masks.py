"""Masks in the forms COCO knows: run lengths (compressed or not) and polygons."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def encode(mask: NDArray[Any]) -> dict[str, Any]:
    """``mask`` [H, W] as compressed run lengths that JSON can hold: ``{"size": [H, W], "counts": "…"}``."""
    import hotcoco.mask

    runs = hotcoco.mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(side) for side in runs["size"]], "counts": runs["counts"].decode("ascii")}
