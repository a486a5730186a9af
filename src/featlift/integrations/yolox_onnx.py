"""YOLOX from and to ONNX files."""

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from featlift.integrations.yolox_network import build_yolox, size_of_width
from featlift.upgrading.extended_level import disable_windows

CLASSES = "head.cls_preds.0"
"""Convolution that has this name in all files; most others have only a number in the published ones."""
INSTALL = "ONNX files need onnx, onnxscript and onnxruntime: pip install 'featlift[export]'"


@torch.no_grad()
def load_onnx_yolox(path: Path) -> nn.Module:
    """Build a network without batch norm and copy the convolutions of the ONNX file ``path`` in the order of execution.

    Raises:
        ImportError: If pixeltable-yolox or onnx is not installed.
        ValueError: If the convolutions are not those of a YOLOX.
    """
    weights = read_convolutions(path)
    if CLASSES not in weights:
        raise ValueError(f"{path} holds no YOLOX: it has no convolution named {CLASSES}.")
    width, num_classes = (len(bias) for _, bias in (next(iter(weights.values())), weights[CLASSES]))
    network = build_yolox(size_of_width(width), num_classes, fused=True)
    convolutions = convolutions_in_order(network)
    if [one.weight.shape for one in convolutions] != [weight.shape for weight, _ in weights.values()]:
        raise ValueError(
            f"{path} holds no YOLOX: its {len(weights)} convolutions are not those of the published networks."
        )
    for convolution, (weight, bias) in zip(convolutions, weights.values(), strict=True):
        convolution.weight.copy_(weight)
        convolution.bias = nn.Parameter(bias)
    return network


def read_convolutions(path: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """Read weight and bias (exporters leave out zeros) of every convolution of an ONNX file by its name, in the order of the file.

    Raises:
        ImportError: If onnx is not installed.
        ValueError: If batch norm is not folded into the convolutions.
    """
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError as error:
        raise ImportError(INSTALL) from error
    graph = onnx.load(str(path)).graph
    values = {tensor.name: tensor for tensor in graph.initializer}
    nodes = [node for node in graph.node if node.op_type == "Conv"]
    if len(nodes) < 4 or any(node.op_type == "BatchNormalization" for node in graph.node):
        raise ValueError(f"{path} holds no YOLOX with batch norm folded into its convolutions.")
    pairs = {}
    for node in nodes:
        tensors = [torch.tensor(numpy_helper.to_array(values[name])) for name in node.input[1:3]]
        bias = tensors[1] if len(tensors) > 1 else torch.zeros(len(tensors[0]))
        pairs[node.input[1].removesuffix(".weight")] = (tensors[0], bias)
    return pairs


@torch.no_grad()
def convolutions_in_order(network: nn.Module) -> list[nn.Conv2d]:
    """Return the convolutions of YOLOX in the order of execution."""
    order: list[Any] = []
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    hooks = [module.register_forward_hook(lambda module, *_: order.append(module)) for module in convolutions]
    network(torch.zeros(1, 3, 64, 64))
    for hook in hooks:
        hook.remove()
    return order


def export_yolox(network: nn.Module, path: str | Path, image_size: int = 416) -> float:
    """Export ``network``, with its extended level if that is enabled, to ONNX for batches of one image, and compare the outputs.

    The level is exported without windows (``min_score`` of ``enable_level``), which depend on the image.

    Args:
        network: YOLOX.
        path: ONNX file; input ``images [1, 3, S, S]`` BGR in 0…255, output ``[1, N, 5 + K]``.
        image_size: Side S, px.

    Returns:
        Largest difference between the outputs of onnxruntime and PyTorch on noise, relative to the largest output.

    Raises:
        ImportError: If onnx, onnxscript or onnxruntime is not installed.
    """
    try:
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError(INSTALL) from error
    image = 255 * torch.rand(1, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
    network = copy.deepcopy(network).eval()
    disable_windows(network)
    folded = fold_batch_norm(network)
    torch.onnx.export(folded, (image,), str(path), input_names=["images"], dynamo=True, external_data=False)
    session: Any = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    actual = torch.from_numpy(session.run(None, {"images": image.numpy()})[0])
    with torch.no_grad():
        expected = network(image)
    return ((actual - expected).abs().max() / expected.abs().max()).item()


def fold_batch_norm(network: nn.Module) -> nn.Module:
    """Return a copy of YOLOX with batch norm folded into the convolutions, as in the published files."""
    folded = copy.deepcopy(network)
    blocks: list[Any] = list(folded.modules())
    for block in blocks:
        if isinstance(getattr(block, "conv", None), nn.Conv2d) and isinstance(
            getattr(block, "bn", None), nn.BatchNorm2d
        ):
            block.conv, block.bn = fuse_conv_bn_eval(block.conv, block.bn), nn.Identity()
    return folded
