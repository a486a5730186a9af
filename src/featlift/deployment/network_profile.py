"""Cost of a whole network of any library, as it is and upgraded with each interpolator."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from featlift.deployment.profile_report import PartProfile, format_numbers, profile_calls
from featlift.interpolators import INTERPOLATORS
from featlift.registry import look_up
from featlift.upgrading import is_upgraded, upgrade


@torch.no_grad()
def profile_network(
    network: nn.Module, image: Tensor, interpolators: Sequence[str] = (), rounds: int = 5
) -> tuple[PartProfile, ...]:
    """Profile ``network`` on the batch of one ``image [3, H, W]``, as it is and upgraded with each of ``interpolators``.

    Args:
        network: Network ``[B, 3, H, W]`` → anything, in evaluation mode, on the device of ``image``. It is copied.
        image: Image in 0…1.
        interpolators: Names; default: all learned ones. None are added to a network that is already upgraded.
        rounds: Number of timed runs, after two warm-up runs.

    Raises:
        ValueError: If an interpolator is unknown, or the network upsamples no map by 2.
    """
    for name in interpolators:
        look_up(INTERPOLATORS, name, "interpolator")
    networks = {"as it is": network}
    names = interpolators or [name for name in INTERPOLATORS if name not in ("nearest", "bilinear", "bicubic")]
    for name in () if is_upgraded(network) else names:
        networks[f"+ {name}"] = copy.deepcopy(network)
        upgrade(networks[f"+ {name}"], name, example_inputs=image[None], keep_weights=False)
    calls: dict[str, tuple[Sequence[nn.Module], Callable[[], Any]]] = {
        name: ([module], lambda module=module: module(image[None])) for name, module in networks.items()
    }
    return profile_calls(calls, image.device, rounds)


def format_network_table(rows: Sequence[PartProfile]) -> str:
    """Format a table with one line per network."""
    header = f"{'network':<20}{'parameters':>14}{'GMAC':>10}{'ms':>10}{'MB':>10}"
    return "\n".join([header, *(f"{row.name:<20}{format_numbers(row)}" for row in rows)])
