"""``featlift list``: the names that options take."""

from featlift.detectors import DETECTORS
from featlift.interpolators import INTERPOLATORS, PER_STEP, interpolator


def show(what: str = "all", channels: int = 256) -> None:
    """Print the names of interpolators (with their parameters) and detectors.

    Args:
        what: "interpolators", "detectors" or "all".
        channels: of the map, for the parameter counts.
    """
    if what not in ("all", "interpolators", "detectors"):
        raise ValueError(f"Unknown list '{what}'; choose interpolators, detectors or all.")
    if what != "detectors":
        print(f"interpolators (parameters at {channels} channels)")
        for name in INTERPOLATORS:
            count = sum(p.numel() for p in interpolator(name, channels).parameters())
            print(f"  {name:<16}{count:>12,}{'  for each step' if name in PER_STEP else ''}")
    if what != "interpolators":
        print("detectors (levels they read)")
        for name, family in DETECTORS.items():
            print(f"  {name:<16}{' '.join(family.levels)}")
