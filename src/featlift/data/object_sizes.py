"""Bins of object sizes, by area."""

AREA_BINS = {"tiny": 16.0**2, "small": 32.0**2, "medium": 96.0**2, "large": float("inf")}
"""Bin → its upper bound in px²; the bins do not overlap: small starts at the upper bound of tiny."""


def area_bin_of(area: float) -> str:
    """Return the bin of `AREA_BINS` that contains ``area`` (px²); a bound belongs to the larger bin."""
    return next(name for name, bound in AREA_BINS.items() if area < bound)
