"""``featlift list``: the names that options take."""

from featlift.commands.parsing import PRESETS
from featlift.detectors import DETECTORS
from featlift.interpolators import INTERPOLATORS, PER_STEP, interpolator

LISTS = ("interpolators", "detectors", "presets")


def show(what: tuple[str, ...] = (), channels: int = 256) -> None:
    """Print names: of interpolators (with their parameters), of detectors, of presets.

    Args:
        what: interpolators, detectors, presets; all if none is named.
        channels: of the map, for the parameter counts.

    Raises:
        ValueError: if there is no such list.
    """
    unknown = [name for name in what if name not in LISTS]
    if unknown:
        raise ValueError(f"Unknown list '{unknown[0]}'; choose {', '.join(LISTS)}.")
    chosen = what or LISTS
    if "interpolators" in chosen:
        print(f"interpolators (parameters at {channels} channels)")
        for name in INTERPOLATORS:
            count = sum(p.numel() for p in interpolator(name, channels).parameters())
            print(f"  {name:<16}{count:>12,}{'  for each step' if name in PER_STEP else ''}")
    if "detectors" in chosen:
        print("detectors (levels they read)")
        for name, family in DETECTORS.items():
            print(f"  {name:<16}{' '.join(family.levels)}")
    if "presets" in chosen:
        print("presets")
        for name, meaning in PRESETS.items():
            print(f"  {name:<16}{meaning}")
