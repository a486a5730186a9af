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
