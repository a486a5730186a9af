"""A super-resolution network in settings: its name, its options, and what it starts from."""

from dataclasses import dataclass, field

from torch import nn

from featlift.image_sr import super_resolver
from featlift.image_sr.official_weights import load_published


@dataclass(frozen=True)
class Network:
    """A super-resolution network by name.

    Attributes:
        name: of a super-resolver (`featlift list super-resolvers`).
        scale: 2, 3, 4 or 8.
        options: arguments of the network, such as {"blocks": 4}.
        weights: a published file, or one of ours, to start from; empty starts from nothing. The paper starts from D-DBPN's DIV2K weights.
        recompute: compute blocks again in the backward pass, for a fraction of the memory.
    """

    name: str = "d-dbpn"
    scale: int = 4
    options: dict[str, float] = field(default_factory=dict)
    weights: str = ""
    recompute: bool = False


def build(network: Network) -> nn.Module:
    """The network as described, with its starting weights.

    Raises:
        ValueError: if the name, the scale, the options or the weights do not fit.
    """
    built = super_resolver(network.name, network.scale, **network.options)
    if network.weights:
        load_published(built, network.weights)
    if network.recompute:
        if not hasattr(built, "recompute"):
            raise ValueError(f"'{network.name}' has no blocks to recompute; leave recompute out.")
        built.recompute = True  # type: ignore[assignment]
    return built
