"""``featlift list``: print the names that options accept."""

from collections.abc import Callable

from featlift.detectors import DETECTORS, list_detectors
from featlift.image_sr import SUPER_RESOLVERS
from featlift.interpolators import GUIDED_INTERPOLATORS, PER_STEP_INTERPOLATORS, interpolator, list_interpolators
from featlift.pyramids import list_pyramids
from featlift.pyramids.texture_transfers import TEXTURE_TRANSFERS, texture_transfer
from featlift.registry import check_choice
from featlift.runs.presets import PRESETS


def list_names(lists: tuple[str, ...] = (), channels: int = 256) -> None:
    """Print the names that options accept.

    Args:
        lists: Lists to print: interpolators (with parameter counts), pyramids, texture-transfers (EFPN's extended level),
            detectors, super-resolvers, presets; default: all.
        channels: Channels of the feature map, for the parameter counts.

    Raises:
        ValueError: If a list is unknown.
    """
    for name in lists:
        check_choice(name, NAME_LISTS, "list")
    for name in lists or NAME_LISTS:
        print(name)
        for entry, details in NAME_LISTS[name](channels):
            print(f"  {entry:<20}{details}".rstrip())


def _list_interpolators(channels: int) -> list[tuple[str, str]]:
    counts = {name: sum(p.numel() for p in interpolator(name, channels).parameters()) for name in list_interpolators()}
    return [(name, f"{count:>12,} parameters{_describe_use(name)}") for name, count in counts.items()]


def _describe_use(name: str) -> str:
    per_step = " per upsampling step" if name in PER_STEP_INTERPOLATORS else ""
    return per_step + (", reads the finer level" if name in GUIDED_INTERPOLATORS else "")


def _list_transfers(channels: int) -> list[tuple[str, str]]:
    counts = {name: sum(p.numel() for p in texture_transfer(name, channels).parameters()) for name in TEXTURE_TRANSFERS}
    return [*((name, f"{count:>12,} parameters") for name, count in counts.items()), ("any interpolator", "")]


NAME_LISTS: dict[str, Callable[[int], list[tuple[str, str]]]] = {
    "interpolators": _list_interpolators,
    "pyramids": lambda channels: [(name, "") for name in list_pyramids()],
    "texture-transfers": _list_transfers,
    "detectors": lambda channels: [(name, " ".join(DETECTORS[name].levels)) for name in list_detectors()],
    "super-resolvers": lambda channels: [(name, "") for name in SUPER_RESOLVERS],
    "presets": lambda channels: list(PRESETS.items()),
}
"""List name → function of the channels that returns (name, details) pairs."""
