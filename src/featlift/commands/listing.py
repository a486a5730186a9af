"""``featlift list``: the names that options take."""

from collections.abc import Callable

from featlift.cli.parser import PRESETS
from featlift.detectors import DETECTORS
from featlift.image_sr import SUPER_RESOLVERS
from featlift.interpolators import INTERPOLATORS, PER_STEP, interpolator
from featlift.pyramids import PYRAMIDS
from featlift.pyramids.efpn import TRANSFERS, transfer


def show(what: tuple[str, ...] = (), channels: int = 256) -> None:
    """Print the names that options take.

    Args:
        what: interpolators (with their parameters), pyramids, transfers (what makes EFPN's finer level), detectors, super-resolvers,
            presets; all if none is named.
        channels: of the map, for the parameter counts.

    Raises:
        ValueError: if there is no such list.
    """
    unknown = [name for name in what if name not in LISTS]
    if unknown:
        raise ValueError(f"Unknown list '{unknown[0]}'; choose {', '.join(LISTS)}.")
    for name in what or LISTS:
        print(name)
        for entry, meaning in LISTS[name](channels):
            print(f"  {entry:<20}{meaning}".rstrip())


def _interpolators(channels: int) -> list[tuple[str, str]]:
    counts = {name: sum(p.numel() for p in interpolator(name, channels).parameters()) for name in INTERPOLATORS}
    each = {name: " for each step" if name in PER_STEP else "" for name in INTERPOLATORS}
    return [(name, f"{count:>12,} parameters{each[name]}") for name, count in counts.items()]


def _transfers(channels: int) -> list[tuple[str, str]]:
    counts = {name: sum(p.numel() for p in transfer(name, channels).parameters()) for name in TRANSFERS}
    return [*((name, f"{count:>12,} parameters") for name, count in counts.items()), ("any interpolator", "")]


LISTS: dict[str, Callable[[int], list[tuple[str, str]]]] = {
    "interpolators": _interpolators,
    "pyramids": lambda channels: [(name, "") for name in PYRAMIDS],
    "transfers": _transfers,
    "detectors": lambda channels: [(name, " ".join(family.levels)) for name, family in DETECTORS.items()],
    "super-resolvers": lambda channels: [(name, "") for name in SUPER_RESOLVERS],
    "presets": lambda channels: list(PRESETS.items()),
}
"""What each list has at so many channels: names and what there is to say of them."""
