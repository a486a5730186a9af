"""What an extended level costs, compared with the pass on the image at twice the size."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from featlift.profiling import count_macs, count_parameters, measure_latencies
from featlift.upgrading.extended_detector import ExtendedDetector, run_plain, student_maps
from featlift.upgrading.extended_family import enlarge


@dataclass(frozen=True)
class LevelCost:
    """Cost of one image.

    Attributes:
        image_size: (H, W) of the network's input, px.
        parameters: Added parameters.
        gmacs: 10⁹ multiply-adds of the plain pass, of what the level adds, and of the plain pass on the image at twice the size.
        seconds: The same in seconds, median; None if not measured.
    """

    image_size: tuple[int, int]
    parameters: int
    gmacs: dict[str, float]
    seconds: dict[str, float] | None

    @property
    def gmac_share(self) -> float:
        """Multiply-adds that the level adds, divided by those of the plain pass on the image at twice the size."""
        return self.gmacs["level"] / self.gmacs["2x image"]

    @property
    def time_share(self) -> float | None:
        """As :attr:`gmac_share`, of the time; None if not measured."""
        return None if self.seconds is None else self.seconds["level"] / self.seconds["2x image"]

    def __str__(self) -> str:
        """One line per pass, then the shares."""
        lines = [f"cost at {self.image_size[0]}x{self.image_size[1]} px, {self.parameters:,} parameters:"]
        for name, gmacs in self.gmacs.items():
            time = f"  {1e3 * self.seconds[name]:8.1f} ms" if self.seconds else ""
            lines.append(f"  {name:<12} {gmacs:8.3f} GMAC{time}")
        time = f", {self.time_share:.2f} of the time" if self.time_share is not None else ""
        lines.append(f"  the level adds {self.gmac_share:.2f} of the multiply-adds{time} of the 2x image")
        return "\n".join(lines)


@torch.no_grad()
def level_cost(model: ExtendedDetector, image_size: tuple[int, int], rounds: int = 0) -> LevelCost:
    """Measure the cost of the level of ``model`` on an image of ``image_size`` (H, W) px; ``rounds`` of timing, 0 for none."""
    calls = _calls(model, next(model.parameters()).new_zeros(1, 3, *image_size))
    gmacs = {name: count_macs(call) / 1e9 for name, call in calls.items()}
    seconds = None
    if rounds:
        seconds = {name: latency.median for name, latency in measure_latencies(calls, rounds).items()}
    return LevelCost(image_size, count_parameters(model.added_level), gmacs, seconds)


def _calls(model: ExtendedDetector, image: Tensor) -> dict[str, Callable[[], Any]]:
    family, plain = model.level_family, run_plain(model, model.level_family, image)
    size = (image.shape[-2], image.shape[-1])
    large = enlarge(image)
    return {
        "image": lambda: family.run_head(model, family.run_features(model, image)),
        "level": lambda: family.predict(model, student_maps(model, plain)[0], size),
        "2x image": lambda: family.run_head(model, family.run_features(model, large)),
    }
