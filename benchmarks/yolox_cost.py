"""Cost of an extended level on YOLOX-Nano, as shares of the pass on the enlarged image."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from yolox_cache import INPUTS
from yolox_network import SIDE, YOLOXNano, run_plain_pass
from yolox_stem import ImageStem

from featlift.profiling import count_macs, measure_latencies
from featlift.upgrading.extended_family import enlarge

ENLARGED = "enlarged, whole pass"


@torch.no_grad()
def compare_costs(network: YOLOXNano, students: Mapping[str, nn.Module], rounds: int = 15) -> list[dict[str, Any]]:
    """Measure what a level adds to the plain pass on an image of 416 px, compared with the whole pass on the enlarged image.

    Columns are GMAC, milliseconds (median over interleaved rounds, channels last), and both as shares of that pass. The plain pass is
    not included in the rows of a level. The stem is `ImageStem`, which is exact.
    """
    calls = _forward_calls(network, students)
    latencies = measure_latencies(calls, rounds)
    macs = {name: count_macs(call) for name, call in calls.items()}
    rows = []
    for name in calls:
        seconds = latencies[name].median
        row = {"what": name, "GMAC": round(macs[name] / 1e9, 3), "ms": round(1e3 * seconds, 1)}
        row["GMAC share"] = round(macs[name] / macs[ENLARGED], 3)
        row["time share"] = round(seconds / latencies[ENLARGED].median, 3)
        if name.endswith(": student"):
            parameters = students[name.removesuffix(": student")].parameters()
            row["parameters"] = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
        rows.append(row)
    return rows


def _forward_calls(network: YOLOXNano, students: Mapping[str, nn.Module]) -> dict[str, Callable[[], Any]]:
    channels_last = {"memory_format": torch.channels_last}
    image = torch.zeros(1, 3, SIDE, SIDE).contiguous(**channels_last)
    stem = ImageStem(network).to(**channels_last)
    maps = {
        name: torch.rand(1, channels, side, side).contiguous(**channels_last)
        for name, (side, channels) in INPUTS.items()
    }

    def compute_level(student: nn.Module) -> Tensor:
        dark3 = network.compute_dark3_from_stem(stem(image))
        return network.compute_output(network.compute_c3_p3(student(maps | {"enlarged_dark3": dark3}), dark3))

    calls: dict[str, Callable[[], Any]] = {
        "plain": lambda: run_plain_pass(network, image),
        ENLARGED: lambda: run_plain_pass(network, enlarge(image)),
        "stem to dark3, published stem": lambda: network.compute_dark3(enlarge(image)),
        "stem to dark3, stem on the image": lambda: network.compute_dark3_from_stem(stem(image)),
        "C3_p3 and finest head": lambda: network.compute_output(
            network.compute_c3_p3(maps["dark3"], maps["enlarged_dark3"])
        ),
    }
    for name, student in students.items():
        student.to(**channels_last)
        calls[f"{name}: student"] = lambda student=student: student(maps)
        calls[f"{name}: level"] = lambda student=student: compute_level(student)
    return calls
