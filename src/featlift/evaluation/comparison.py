"""Two detectors on one ground truth: how much better, how surely, and on which objects."""

from collections.abc import Sequence
from dataclasses import dataclass

from featlift.evaluation.average_precision import Detection, GroundTruth, Kind
from featlift.evaluation.bootstrap import Interval, bootstrap
from featlift.evaluation.object_changes import Gains, gains


@dataclass(frozen=True)
class Comparison:
    """What changes from the ``first`` detector to the ``second`` (their names)."""

    first: str
    second: str
    intervals: dict[Kind, dict[str, Interval]]
    """``"boxes"``, ``"masks"`` → name of the number (`average_precision`) → second − first with its interval."""
    gains: Gains
    """Found by their boxes."""


def compare(
    truth: GroundTruth,
    first: Sequence[Detection],
    second: Sequence[Detection],
    names: tuple[str, str] = ("first", "second"),
    kinds: Sequence[Kind] = ("boxes",),
    resamples: int = 1000,
    seed: int = 0,
) -> Comparison:
    """`bootstrap` for each of ``kinds``, and `gains`.

    Raises:
        ValueError: as `average_precision` and `bootstrap`.
    """
    intervals: dict[Kind, dict[str, Interval]] = {
        kind: bootstrap(truth, first, second, kind, resamples, seed=seed) for kind in kinds
    }
    return Comparison(*names, intervals, gains(truth, first, second))
