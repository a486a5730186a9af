"""A super-resolution network in settings: its name, its options, and what it starts from."""

from dataclasses import dataclass, field

from torch import nn

from featlift.image_sr import super_resolver
from featlift.image_sr.official_weights import load_published_weights


@dataclass(frozen=True)
class SuperResolverConfig:
    """A super-resolution network by name.

    Attributes:
        name: of a super-resolver (`featlift list super-resolvers`).
        scale: 2, 3, 4 or 8.
        options: arguments of the network, such as {"blocks": 4}.
        weights: a published file, or one of ours, to start from; empty starts from nothing. The paper starts from D-DBPN's DIV2K weights.
        gradient_checkpointing: compute blocks again in the backward pass, for a fraction of the memory.
    """

    name: str = "d-dbpn"
    scale: int = 4
    options: dict[str, float] = field(default_factory=dict)
    weights: str = ""
    gradient_checkpointing: bool = False


def build_super_resolver(config: SuperResolverConfig) -> nn.Module:
    """The network as described, with its starting weights.

    Raises:
        ValueError: if the name, the scale, the options or the weights do not fit.
    """
    built = super_resolver(config.name, config.scale, **config.options)
    if config.weights:
        load_published_weights(built, config.weights)
    if config.gradient_checkpointing:
        if not hasattr(built, "recompute"):
            raise ValueError(f"'{config.name}' has no blocks to recompute; leave recompute out.")
        built.recompute = True  # type: ignore[assignment]
    return built
