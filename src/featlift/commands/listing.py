"""``featlift list``: the names that options take."""

from collections.abc import Callable

from featlift.cli.parser import PRESETS
from featlift.detectors import DETECTORS
from featlift.image_sr import SUPER_RESOLVERS
from featlift.interpolators import INTERPOLATORS, PER_STEP_INTERPOLATORS, interpolator
from featlift.pyramids import PYRAMIDS
from featlift.pyramids.efpn import TEXTURE_TRANSFERS, texture_transfer


def list_names(lists: tuple[str, ...] = (), channels: int = 256) -> None:
    """Print the names that options take.

    Args:
        lists: interpolators (with their parameters), pyramids, transfers (what makes EFPN's finer level), detectors, super-resolvers,
            presets; all if none is named.
        channels: of the map, for the parameter counts.

    Raises:
        ValueError: if there is no such list.
    """
    unknown = [name for name in lists if name not in NAME_LISTS]
    if unknown:
        raise ValueError(f"Unknown list '{unknown[0]}'; choose {', '.join(NAME_LISTS)}.")
    for name in lists or NAME_LISTS:
        print(name)
        for entry, meaning in NAME_LISTS[name](channels):
            print(f"  {entry:<20}{meaning}".rstrip())


def _list_interpolators(channels: int) -> list[tuple[str, str]]:
    counts = {name: sum(p.numel() for p in interpolator(name, channels).parameters()) for name in INTERPOLATORS}
    each = {name: " for each step" if name in PER_STEP_INTERPOLATORS else "" for name in INTERPOLATORS}
    return [(name, f"{count:>12,} parameters{each[name]}") for name, count in counts.items()]


def _list_transfers(channels: int) -> list[tuple[str, str]]:
    counts = {name: sum(p.numel() for p in texture_transfer(name, channels).parameters()) for name in TEXTURE_TRANSFERS}
    return [*((name, f"{count:>12,} parameters") for name, count in counts.items()), ("any interpolator", "")]


NAME_LISTS: dict[str, Callable[[int], list[tuple[str, str]]]] = {
    "interpolators": _list_interpolators,
    "pyramids": lambda channels: [(name, "") for name in PYRAMIDS],
    "transfers": _list_transfers,
    "detectors": lambda channels: [(name, " ".join(family.levels)) for name, family in DETECTORS.items()],
    "super-resolvers": lambda channels: [(name, "") for name in SUPER_RESOLVERS],
    "presets": lambda channels: list(PRESETS.items()),
}
"""What each list has at so many channels: names and what there is to say of them."""
