"""Configuration of a super-resolution network: name, options and initial weights."""

from dataclasses import dataclass, field

from torch import nn

from featlift.image_sr import super_resolver
from featlift.image_sr.official_weights import load_published_weights


@dataclass(frozen=True)
class SuperResolverConfig:
    """Configuration of a super-resolution network.

    Attributes:
        name: Name of the super-resolver (see `featlift list super-resolvers`).
        scale: Upscaling factor: 2, 3, 4 or 8.
        options: Arguments of the network, such as {"blocks": 4}.
        weights: File of initial weights, published or saved by FeatLift; empty for random weights. The paper uses D-DBPN's DIV2K weights.
        gradient_checkpointing: Recompute the blocks in the backward pass, which saves memory and takes more time.
    """

    name: str = "d-dbpn"
    scale: int = 4
    options: dict[str, float] = field(default_factory=dict)
    weights: str = ""
    gradient_checkpointing: bool = False


def build_super_resolver(config: SuperResolverConfig) -> nn.Module:
    """Build the network of ``config`` with its initial weights.

    Raises:
        ValueError: If the name or scale is unknown, the weights do not fit, or the network does not support gradient checkpointing.
    """
    network = super_resolver(config.name, config.scale, **config.options)
    if config.weights:
        load_published_weights(network, config.weights)
    if config.gradient_checkpointing:
        if not hasattr(network, "gradient_checkpointing"):
            raise ValueError(f"'{config.name}' does not support gradient_checkpointing; leave it out.")
        network.gradient_checkpointing = True  # type: ignore[assignment]
    return network
