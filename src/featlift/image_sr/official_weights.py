"""Weights that others published, read into our networks.

=========  =============================================================================  ==========================================
network    repository                                                                     layout
=========  =============================================================================  ==========================================
DDBPN      alterzero/DBPN-Pytorch (``DBPN_x4.pth``, ``DBPNLL_x8.pth`` …)                  ``feat0``, ``up1.up_conv1.deconv`` …
EDSR       sanghyun-son/EDSR-PyTorch (``edsr_baseline_x4-….pt`` …)                        ours, and ``sub_mean``, ``add_mean``
RCAN       yulunzhang/RCAN (``RCAN_BIX4.pt`` …)                                           ours, and ``sub_mean``, ``add_mean``
SRCNN      yjn870/SRCNN-pytorch (``srcnn_x4.pth`` …)                                      ours
VDSR       twtygqyy/pytorch-vdsr: keys ``features.0`` …, without biases                   ours with ``bias=False``
=========  =============================================================================  ==========================================

Only tensors are ever unpickled (``weights_only``): a file that holds a whole pickled network, as pytorch-vdsr's does, is refused.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from featlift.checkpoints import read_state_dict

_DATA_PARALLEL_PREFIX = re.compile(r"^module\.")
_MEAN_SHIFT_PREFIXES = ("sub_mean.", "add_mean.")  # constants of EDSR and RCAN, which we keep as one buffer
_DBPN_RENAMES = (
    (re.compile(r"^feat0\."), "lift."),
    (re.compile(r"^feat1\."), "narrow."),
    (re.compile(r"^(up|down)(\d+)\.conv\."), r"\1s.\2.squeeze."),
    (re.compile(r"^(up|down)(\d+)\.\1_conv1\."), r"\1s.\2.there."),
    (re.compile(r"^(up|down)(\d+)\.\1_conv2\."), r"\1s.\2.back."),
    (re.compile(r"^(up|down)(\d+)\.\1_conv3\."), r"\1s.\2.again."),
    (re.compile(r"^output_conv\.conv\."), "paint."),
    (re.compile(r"\.(conv|deconv)\.(?=weight|bias)"), ".0."),
    (re.compile(r"\.act\.(?=weight)"), ".1."),
)


def convert_published_keys(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A published state dict under the names of our networks; one that has them already comes back as it is."""
    state = {_DATA_PARALLEL_PREFIX.sub("", name): value for name, value in state.items()}
    if "feat0.conv.weight" in state:
        return {_convert_dbpn_key(name): value for name, value in state.items()}
    return {name: value for name, value in state.items() if not name.startswith(_MEAN_SHIFT_PREFIXES)}


def _convert_dbpn_key(name: str) -> str:
    for pattern, ours in _DBPN_RENAMES:
        name = pattern.sub(ours, name)
    return re.sub(r"^(ups|downs)\.(\d+)\.", lambda found: f"{found[1]}.{int(found[2]) - 1}.", name)


def load_published_weights(network: nn.Module, path: str | Path) -> nn.Module:
    """Put the published weights at ``path`` into ``network``, and return it.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it holds more than tensors, or the weights belong to another network, another size of it, or another scale.
    """
    state = convert_published_keys(read_state_dict(path))
    try:
        network.load_state_dict(state)
    except RuntimeError as reason:
        raise ValueError(
            f"{path} does not fit {type(network).__name__} at {network.scale}x; choose the name and the scale it was made for. {reason}"
        ) from reason
    return network
