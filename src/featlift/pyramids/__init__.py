"""Feature pyramids: ``{c2 … c5}`` in, ``{p2 … p7}`` out; every doubling is done by an interpolator they were given."""

from featlift.pyramids.fpn import FPN, Strided, Subsampled

__all__ = ["FPN", "Strided", "Subsampled"]
