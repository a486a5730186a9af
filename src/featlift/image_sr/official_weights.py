"""Loading of published weights into the networks of FeatLift.

=========  =============================================================================  ==========================================
network    repository                                                                     state dict keys
=========  =============================================================================  ==========================================
DDBPN      alterzero/DBPN-Pytorch (``DBPN_x4.pth``, ``DBPNLL_x8.pth`` …)                  ``feat0``, ``up1.up_conv1.deconv`` …
EDSR       sanghyun-son/EDSR-PyTorch (``edsr_baseline_x4-….pt`` …)                        equal, plus ``sub_mean``, ``add_mean``
RCAN       yulunzhang/RCAN (``RCAN_BIX4.pt`` …)                                           equal, plus ``sub_mean``, ``add_mean``
SRCNN      yjn870/SRCNN-pytorch (``srcnn_x4.pth`` …)                                      equal
VDSR       twtygqyy/pytorch-vdsr: keys ``features.0`` …, without biases                   equal, with ``bias=False``
=========  =============================================================================  ==========================================

Only tensors are unpickled (``weights_only``): files with a whole pickled network, such as pytorch-vdsr's, are rejected.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from featlift.checkpoints import read_state_dict
from featlift.image_sr.dbpn import DDBPN
from featlift.image_sr.srcnn import SRCNN
from featlift.image_sr.vdsr import VDSR

_DATA_PARALLEL_PREFIX = re.compile(r"^module\.")
_MEAN_SHIFT_PREFIXES = ("sub_mean.", "add_mean.")  # constants of EDSR and RCAN, stored here as one buffer
_DBPN_RENAMES = (
    (re.compile(r"^(up|down)(\d+)\.conv\."), r"\1s.\2.squeeze."),
    (re.compile(r"^(up|down)(\d+)\.\1_conv1\."), r"\1s.\2.project."),
    (re.compile(r"^(up|down)(\d+)\.\1_conv2\."), r"\1s.\2.back_project."),
    (re.compile(r"^(up|down)(\d+)\.\1_conv3\."), r"\1s.\2.project_residual."),
    (re.compile(r"^output_conv\.conv\."), "output_conv."),
    (re.compile(r"\.(conv|deconv)\.(?=weight|bias)"), ".0."),
    (re.compile(r"\.act\.(?=weight)"), ".1."),
)


def convert_published_keys(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the keys of a published state dict to those of FeatLift's networks; keys of FeatLift are left unchanged."""
    state = {_DATA_PARALLEL_PREFIX.sub("", name): value for name, value in state.items()}
    if "feat0.conv.weight" in state:
        return {_convert_dbpn_key(name): value for name, value in state.items()}
    return {name: value for name, value in state.items() if not name.startswith(_MEAN_SHIFT_PREFIXES)}


def _convert_dbpn_key(name: str) -> str:
    for pattern, replacement in _DBPN_RENAMES:
        name = pattern.sub(replacement, name)
    return re.sub(r"^(ups|downs)\.(\d+)\.", lambda match: f"{match[1]}.{int(match[2]) - 1}.", name)


def build_published_network(path: str | Path, scale: int = 4) -> nn.Module | None:
    """Build D-DBPN, SRCNN or VDSR from the published weights at ``path``, with the size that their shapes say, in evaluation mode.

    Returns None if the file holds another network or cannot be read as tensors.

    Args:
        path: File of weights.
        scale: Scale factor of SRCNN and VDSR, which their shapes do not tell; D-DBPN's is read from its kernels.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If some of the network's weights are missing.
    """
    try:
        state = read_state_dict(path)
    except ValueError:
        return None
    shapes = {name: tuple(x.shape) for name, x in convert_published_keys(state).items()}
    network = _network_of_shapes(shapes, scale)
    return None if network is None else load_published_weights(network, path).eval()


def _network_of_shapes(shapes: Mapping[str, tuple[int, ...]], scale: int) -> nn.Module | None:
    if {"feat0.0.weight", "feat1.0.weight", "ups.0.project.0.weight"} <= shapes.keys():
        kernel = shapes["ups.0.project.0.weight"][-1]  # scale + 4
        stages = 1 + max(int(name.split(".")[1]) for name in shapes if name.startswith("ups."))
        return DDBPN(kernel - 4, stages, shapes["feat0.0.weight"][0], shapes["feat1.0.weight"][0])
    if shapes.get("conv1.weight") == (64, 1, 9, 9) and "conv3.weight" in shapes:
        return SRCNN(scale, shapes["conv2.weight"][-1])
    if shapes.get("features.0.weight", ())[1:] == (1, 3, 3):
        depth = sum(name.endswith(".weight") for name in shapes)
        return VDSR(scale, depth, shapes["features.0.weight"][0], "features.0.bias" in shapes)
    return None


def load_published_weights(network: nn.Module, path: str | Path) -> nn.Module:
    """Load the published weights at ``path`` into ``network`` and return it.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file holds anything but tensors, or the weights are of another network, size or scale.
    """
    state = convert_published_keys(read_state_dict(path))
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(
            f"{path} does not fit {type(network).__name__} at {network.scale}x; choose the matching name and scale. {error}"
        ) from error
    return network
