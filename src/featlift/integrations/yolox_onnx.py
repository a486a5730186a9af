"""YOLOX from and to ONNX files."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from featlift.integrations.yolox_network import build_yolox, size_of_width

INSTALL = "ONNX files need onnx, onnxscript and onnxruntime: pip install 'featlift[export]'"


@torch.no_grad()
def load_onnx_yolox(path: Path) -> nn.Module:
    """Build a network without batch norm and copy the convolutions of the ONNX file ``path`` in the order of execution.

    Raises:
        ImportError: If pixeltable-yolox or onnx is not installed.
        ValueError: If the convolutions are not those of a YOLOX.
    """
    weights = read_convolutions(path)
    num_classes = len(weights[-3][1])  # the last three are the classes, boxes and objectness of the coarsest level
    network = build_yolox(size_of_width(len(weights[0][1])), num_classes, fused=True)
    convolutions = convolutions_in_order(network)
    if [tuple(one.weight.shape) for one in convolutions] != [tuple(weight.shape) for weight, _ in weights]:
        raise ValueError(
            f"{path} holds no YOLOX: its {len(weights)} convolutions are not those of the published networks."
        )
    for convolution, (weight, bias) in zip(convolutions, weights, strict=True):
        convolution.weight.copy_(weight)
        convolution.bias = nn.Parameter(bias)
    return network


def read_convolutions(path: Path) -> list[tuple[Tensor, Tensor]]:
    """Read weight and bias of every convolution of an ONNX file, in the order of execution.

    Raises:
        ImportError: If onnx is not installed.
        ValueError: If a convolution has no bias, so that batch norm is not folded into it.
    """
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError as error:
        raise ImportError(INSTALL) from error
    graph = onnx.load(str(path)).graph
    values = {tensor.name: tensor for tensor in graph.initializer}
    nodes = [node for node in graph.node if node.op_type == "Conv"]
    if len(nodes) < 4 or any(len(node.input) < 3 for node in nodes):
        raise ValueError(f"{path} holds no YOLOX with batch norm folded into its convolutions.")
    return [
        tuple(torch.tensor(numpy_helper.to_array(values[name])) for name in node.input[1:3])  # type: ignore[misc]
        for node in nodes
    ]


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

    Args:
        network: YOLOX in evaluation mode.
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
    torch.onnx.export(network.eval(), (image,), str(path), input_names=["images"], dynamo=True, external_data=False)
    session: Any = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    actual = torch.from_numpy(session.run(None, {"images": image.numpy()})[0])
    with torch.no_grad():
        expected = network(image)
    return ((actual - expected).abs().max() / expected.abs().max()).item()
