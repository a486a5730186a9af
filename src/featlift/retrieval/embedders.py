"""Embedders by name: an encoder, its pooling and its input size."""

import warnings
from dataclasses import dataclass

from torch import nn

from featlift.backbones import image_encoder
from featlift.checkpoints import load
from featlift.registry import check_choice
from featlift.retrieval.descriptors import AveragePooling, Embedder, GeM, VGG16Fc7
from featlift.retrieval.gist import Gist
from featlift.retrieval.whitening import Whitening


@dataclass(frozen=True)
class EmbedderConfig:
    """Embedder F, which maps an image to a descriptor (Sec. 3.1).

    Attributes:
        encoder: "vgg16-fc7" (the paper's), "gist" (without weights), or a timm network.
        weights: Local weights file; empty for random weights, "download" for timm's pretrained weights.
        pooling: Pooling of timm networks: "average" or "gem".
        input_size: Side in pixels of the encoder's square input; aspect ratios are not preserved (Sec. 5.2).
        mean_std: Mean and standard deviation of all input channels, for timm networks; None for timm's values.
        whitening: File of a `featlift.retrieval.whitening.Whitening`, applied to the descriptors; empty for none.
        downscale_mode: Downscaling of queries: "image" (Sec. 5.2), "input" or "nearest".
        cache_folder: Folder of cached descriptors.
        fast_decode: Decode JPEG files at 1/2, 1/4 or 1/8 of their size if both sides keep ``input_size`` pixels; descriptors change
            slightly. For ``featlift index`` and its searches.
    """

    encoder: str = "vgg16-fc7"
    weights: str = ""
    pooling: str = "average"
    input_size: int = 224
    mean_std: tuple[float, float] | None = None
    downscale_mode: str = "image"
    whitening: str = ""
    cache_folder: str = "data/descriptors"
    fast_decode: bool = False


def build_embedder(config: EmbedderConfig) -> tuple[Embedder, int]:
    """Embedder F and its descriptor length D.

    Raises:
        ValueError: If ``config.whitening`` is a file of something else, or of another dimension.
    """
    network, dimension = build_encoder(config)
    if not config.whitening:
        return Embedder(network, build_pooling(config), config.input_size, None, config.fast_decode), dimension
    whitening = load(config.whitening)
    if not isinstance(whitening, Whitening) or len(whitening.mean) != dimension:
        raise ValueError(
            f"{config.whitening} holds no whitening of {dimension} numbers, the descriptors of {config.encoder}."
        )
    embedder = Embedder(network, build_pooling(config), config.input_size, whitening, config.fast_decode)
    return embedder, whitening.out_dimension


def build_encoder(config: EmbedderConfig) -> tuple[nn.Module, int]:
    """Encoder and its descriptor length; timm reports unknown network names. Warns about random weights."""
    if config.encoder == "gist":
        gist = Gist()
        return gist, gist.dimension
    if not config.weights:
        remedy = "--embedder.weights FILE" + (" or download" if config.encoder != "vgg16-fc7" else "")
        warnings.warn(
            f"{config.encoder} has random weights; pretrained ones retrieve far better: {remedy}.", stacklevel=2
        )
    if config.encoder == "vgg16-fc7":
        return VGG16Fc7(config.weights or None), 4096
    mean_std = config.mean_std and ([config.mean_std[0]] * 3, [config.mean_std[1]] * 3)
    network = image_encoder(config.encoder, config.weights == "download" or config.weights or False, mean_std)
    return network, network.channels


def build_pooling(config: EmbedderConfig) -> nn.Module:
    """Pooling after the encoder; the identity for encoders that return vectors.

    Raises:
        ValueError: If the pooling is unknown.
    """
    poolings = {"average": AveragePooling, "gem": GeM}
    check_choice(config.pooling, poolings, "pooling")
    return nn.Identity() if config.encoder in ("gist", "vgg16-fc7") else poolings[config.pooling]()
