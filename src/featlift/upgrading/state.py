"""The state of an upgraded network, stored as an attribute of it."""

import json
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from featlift.upgrading.original_weights import OriginalWeights
from featlift.upgrading.rebuild_guards import guard_rebuilds
from featlift.upgrading.wrappers import unwrap_module

STATE_ATTRIBUTE = "_upgrade_state"
CONFIG_ATTRIBUTE = "featlift_upgrade"
"""Entry of the configuration of a Hugging Face model, which ``save_pretrained`` writes to config.json."""


@dataclass
class UpgradeState:
    """State of an upgraded network.

    Attributes:
        name: Interpolator or transfer, as passed to :func:`~featlift.upgrading.upgrade.upgrade`.
        options: Its options.
        neck: Searched submodule.
        sites: (dotted name, number of steps) of each upgraded module.
        original_weights: Tensors before the upgrade.
        level: Extended level, or empty.
        example: Example inputs as JSON (:mod:`featlift.upgrading.example_inputs`); empty if none were given.
    """

    name: str
    options: dict[str, object]
    neck: str
    sites: tuple[tuple[str, int], ...]
    original_weights: OriginalWeights
    level: str = ""
    example: str = ""

    def __post_init__(self) -> None:
        guard_rebuilds(is_upgraded)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        guard_rebuilds(is_upgraded)

    def describe(self) -> dict[str, str]:
        """Return the settings with which the same upgrade can be made again, as strings."""
        return {
            "interpolator": self.name,
            "options": json.dumps(self.options, sort_keys=True),
            "neck": self.neck,
            "sites": json.dumps(self.sites),
            "level": self.level,
            "example": self.example,
        }


def attach_state(model: nn.Module, state: UpgradeState) -> None:
    """Make ``state`` the upgrade state of ``model``, and record it in the configuration of a Hugging Face model."""
    setattr(model, STATE_ATTRIBUTE, state)
    if hasattr(model, "save_pretrained") and hasattr(getattr(model, "config", None), "to_json_file"):
        hint = "featlift.load_delta(model, FOLDER) after model = CLASS.from_pretrained(FOLDER)"
        setattr(model.config, CONFIG_ATTRIBUTE, {**state.describe(), "load_with": hint})


def detach_state(model: nn.Module) -> None:
    """Undo :func:`attach_state`."""
    delattr(model, STATE_ATTRIBUTE)
    if hasattr(getattr(model, "config", None), CONFIG_ATTRIBUTE):
        delattr(model.config, CONFIG_ATTRIBUTE)


def is_upgraded(model: object) -> bool:
    """Return whether :func:`~featlift.upgrading.upgrade.upgrade` was called on ``model`` or on the network in this wrapper.

    Wrappers are those of :func:`~featlift.upgrading.wrappers.unwrap_module`. The submodules of an upgraded network count as not upgraded.
    """
    return hasattr(unwrap_module(model), STATE_ATTRIBUTE)


def get_upgrade_state(model: object) -> UpgradeState:
    """Return the upgrade state of ``model``. Raises ValueError if it is not upgraded."""
    network = unwrap_module(model)
    if not is_upgraded(network):
        paths = [path for path, module in network.named_modules() if hasattr(module, STATE_ATTRIBUTE)]
        hint = f" Its submodule '{paths[0]}' is: pass model.get_submodule('{paths[0]}')." if paths else ""
        raise ValueError(f"This {type(network).__name__} is not upgraded.{hint}")
    return getattr(network, STATE_ATTRIBUTE)


def added_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters added by the upgrade, by their names in the network. Raises ValueError if ``model`` is not upgraded."""
    originals = get_upgrade_state(model).original_weights
    return {name: p for name, p in unwrap_module(model).named_parameters() if name not in originals.names}


@torch.no_grad()
def copy_tensors(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Copy ``tensors`` into the tensors of the same names in ``model``, in place."""
    state = model.state_dict()
    for name, x in tensors.items():
        state[name].copy_(x)
