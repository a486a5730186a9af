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

import pickle
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

_WRAPPER = re.compile(r"^module\.")
_MEANS = ("sub_mean.", "add_mean.")  # constants of EDSR and RCAN, which we keep as one buffer
_DBPN = (
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


def our_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A published state dict under the names of our networks; one that has them already comes back as it is."""
    state = {_WRAPPER.sub("", name): value for name, value in state.items()}
    if "feat0.conv.weight" in state:
        return {_dbpn_name(name): value for name, value in state.items()}
    return {name: value for name, value in state.items() if not name.startswith(_MEANS)}


def _dbpn_name(name: str) -> str:
    for pattern, ours in _DBPN:
        name = pattern.sub(ours, name)
    return re.sub(r"^(ups|downs)\.(\d+)\.", lambda found: f"{found[1]}.{int(found[2]) - 1}.", name)


def tensors_of(path: str | Path) -> dict[str, Tensor]:
    """The state dict in the file at ``path``, also where it lies under ``"model"``, ``"state_dict"`` or ``"params"``.

    Raises:
        ValueError: if the file holds more than tensors, or none.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as reason:
        raise ValueError(
            f"{path} holds Python objects, not only tensors, and is not opened: such a file can run any program. Open it where you "
            "trust it and save network.state_dict() instead."
        ) from reason
    for key in ("state_dict", "model", "params", "params_ema"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not (isinstance(content, Mapping) and content and all(isinstance(value, Tensor) for value in content.values())):
        raise ValueError(f"{path} holds no state dict: expected names and tensors.")
    return dict(content)


def load_published(network: nn.Module, path: str | Path) -> nn.Module:
    """Put the published weights at ``path`` into ``network``, and return it.

    Raises:
        ValueError: if the weights belong to another network, another size of it, or another scale.
    """
    state = our_names(tensors_of(path))
    try:
        network.load_state_dict(state)
    except RuntimeError as reason:
        raise ValueError(
            f"{path} does not fit {type(network).__name__} at {network.scale}x; choose the name and the scale it was made for. {reason}"
        ) from reason
    return network
