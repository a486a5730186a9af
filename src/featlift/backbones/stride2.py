"""Stage 2 of a backbone without the step that halves the map before it: EFPN's C2' (Sec. III-A, Table I).

In a ResNet that step is a max-pooling, and leaving it out is all there is to do. In a network of the EfficientNet family (MobileNetV2,
V3, EfficientNet) it is the stride of stage 2's first depthwise convolution; taking that convolution at every cell instead of every other
one is the same thing, and every other cell of it is what was there before. The paper has ResNets only.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

TimmNetwork = Any  # timm's networks


def stem_layers(network: TimmNetwork) -> list[nn.Module]:
    """The layers, in their order, that lead to the last map of stride 2.

    Raises:
        TypeError: if the network is built like neither a ResNet nor an EfficientNet.
    """
    names = [name for name, _ in network.named_children()]
    if _is_resnet_like(names):
        return [network[name] for name in names[: names.index("maxpool")]]
    stages = _block_names(network, names, 2)
    return [network.get_submodule(name) for name in (*names[: names.index("blocks")], *stages)]


def unpooled_stage2(network: TimmNetwork, c1: Tensor) -> Tensor:
    """Stage 2 on every cell of what :func:`stem_layers` gives: ``[B, C1, H/2, W/2]`` → ``[B, C2, H/2, W/2]``. Raises TypeError as it does."""
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
    """For a moment the convolutions of ``module`` have stride 1."""
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
    """The names of the blocks of an EfficientNet whose maps have this stride."""
    if "blocks" not in names or names[0] != "conv_stem":
        raise TypeError(
            f"This network begins with {', '.join(names[:4])}; EFPN's finer level needs one whose stem has a map of stride 2: the ResNet "
            "family (resnet50, resnext101_32x8d, resnest101e, …), MobileNet (mobilenetv2_100, …) and EfficientNet. Stems of patches "
            "(Swin, ConvNeXt) have none."
        )
    ends = {info["reduction"]: info["module"] for info in network.feature_info.info}
    last, before = (_block_index(ends.get(side, "")) for side in (stride, stride // 2))
    return [f"blocks.{number}" for number in range(before + 1, last + 1)]


def _block_index(module: str) -> int:
    """Of a block; -1 is before them all."""
    return int(module.removeprefix("blocks.")) if module.startswith("blocks.") else -1
