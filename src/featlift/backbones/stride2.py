"""Stage 2 of a backbone without its downsampling: EFPN's C2' of stride 2 (Sec. III-A, Table I).

A ResNet downsamples before stage 2 by max-pooling, which is skipped. A network of the EfficientNet family (MobileNetV2, V3, EfficientNet)
downsamples in stage 2's first depthwise convolution, which is evaluated with stride 1; every second cell of its output equals the
strided output. The paper covers ResNets only.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

TimmNetwork = Any  # a timm network


def stem_layers(network: TimmNetwork) -> list[nn.Module]:
    """Return the layers up to the last map of stride 2, in order.

    Raises:
        TypeError: If the network has the structure of neither a ResNet nor an EfficientNet.
    """
    names = [name for name, _ in network.named_children()]
    if _is_resnet_like(names):
        return [network[name] for name in names[: names.index("maxpool")]]
    stages = _block_names(network, names, 2)
    return [network.get_submodule(name) for name in (*names[: names.index("blocks")], *stages)]


def unpooled_stage2(network: TimmNetwork, c1: Tensor) -> Tensor:
    """Apply stage 2 with stride 1 to the stem's output ``[B, C1, H/2, W/2]`` → ``[B, C2, H/2, W/2]``. Raises as :func:`stem_layers`."""
    names = [name for name, _ in network.named_children()]
    if _is_resnet_like(names):
        return network["layer1"](c1)
    x = c1
    for name in _block_names(network, names, 4):
        stage = network.get_submodule(name)
        with stride_one(stage):
            x = stage(x)
    return x


@contextmanager
def stride_one(module: nn.Module) -> Iterator[None]:
    """Set the stride of all convolutions of ``module`` to 1 within the context."""
    strided = [(part, part.stride) for part in module.modules() if isinstance(part, nn.Conv2d)]
    for convolution, _ in strided:
        convolution.stride = (1, 1)
    try:
        yield
    finally:
        for convolution, stride in strided:
            convolution.stride = stride


def _is_resnet_like(names: list[str]) -> bool:
    return "maxpool,layer1" in ",".join(names)


def _block_names(network: TimmNetwork, names: list[str], stride: int) -> list[str]:
    """Return the names of an EfficientNet's blocks whose maps have ``stride``."""
    if "blocks" not in names or names[0] != "conv_stem":
        raise TypeError(
            f"This network begins with {', '.join(names[:4])}; EFPN's extended level needs a stem with a map of stride 2: the ResNet "
            "family (resnet50, resnext101_32x8d, resnest101e, …), MobileNet (mobilenetv2_100, …) or EfficientNet. Patch stems "
            "(Swin, ConvNeXt) have none."
        )
    ends = {info["reduction"]: info["module"] for info in network.feature_info.info}
    last, previous = (_block_index(ends.get(reduction, "")) for reduction in (stride, stride // 2))
    return [f"blocks.{index}" for index in range(previous + 1, last + 1)]


def _block_index(module: str) -> int:
    """Return the index of a block, or -1 for a module before the blocks."""
    return int(module.removeprefix("blocks.")) if module.startswith("blocks.") else -1
