"""``featlift list``: the names that options take."""

from featlift.commands.parsing import PRESETS
from featlift.detectors import DETECTORS
from featlift.image_sr import SUPER_RESOLVERS
from featlift.interpolators import INTERPOLATORS, PER_STEP, interpolator
from featlift.pyramids import PYRAMIDS


def show(what: tuple[str, ...] = (), channels: int = 256) -> None:
    """Print names: of interpolators (with their parameters), pyramids, detectors, super-resolvers, presets.

    Args:
        what: interpolators, pyramids, detectors, super-resolvers, presets; all if none is named.
        channels: of the map, for the parameter counts.

    Raises:
        ValueError: if there is no such list.
    """
    lists = {
        "interpolators": (f"parameters at {channels} channels", _interpolators(channels)),
        "pyramids": ("", dict.fromkeys(PYRAMIDS, "")),
        "detectors": ("levels they read", {name: " ".join(family.levels) for name, family in DETECTORS.items()}),
        "super-resolvers": ("", dict.fromkeys(SUPER_RESOLVERS, "")),
        "presets": ("", PRESETS),
    }
    unknown = [name for name in what if name not in lists]
    if unknown:
        raise ValueError(f"Unknown list '{unknown[0]}'; choose {', '.join(lists)}.")
    for title in what or lists:
        note, rows = lists[title]
        print(f"{title} ({note})" if note else title)
        print("\n".join(f"  {name:<20}{text}".rstrip() for name, text in rows.items()))


def _interpolators(channels: int) -> dict[str, str]:
    counts = {name: sum(p.numel() for p in interpolator(name, channels).parameters()) for name in INTERPOLATORS}
    return {name: f"{n:>10,}{'  for each step' if name in PER_STEP else ''}" for name, n in counts.items()}
