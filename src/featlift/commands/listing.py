"""``featlift list``: the names that options take."""

from featlift.detectors import DETECTORS
from featlift.image_sr import SUPER_RESOLVERS
from featlift.interpolators import INTERPOLATORS, PER_STEP, interpolator
from featlift.pyramids import PYRAMIDS

KINDS = ("interpolators", "pyramids", "detectors", "super-resolvers")


def show(what: str = "all", channels: int = 256) -> None:
    """Print the names that options take.

    Args:
        what: "interpolators" (with their parameters), "pyramids", "detectors", "super-resolvers" or "all".
        channels: of the map, for the parameter counts.
    """
    if what not in ("all", *KINDS):
        raise ValueError(f"Unknown list '{what}'; choose one of {', '.join(KINDS)}, or all.")
    if what in ("all", "interpolators"):
        print(f"interpolators (parameters at {channels} channels)")
        for name in INTERPOLATORS:
            count = sum(p.numel() for p in interpolator(name, channels).parameters())
            print(f"  {name:<16}{count:>12,}{'  for each step' if name in PER_STEP else ''}")
    if what in ("all", "detectors"):
        print("detectors (levels they read)")
        for name, family in DETECTORS.items():
            print(f"  {name:<20}{' '.join(family.levels)}")
    for kind, names in (("pyramids", PYRAMIDS), ("super-resolvers", SUPER_RESOLVERS)):
        if what in ("all", kind):
            print(f"{kind}\n  {' '.join(names)}")
