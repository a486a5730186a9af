"""Put learned interpolators, or a finer pyramid level, into a detector that already exists, and take them out again.

>>> report = upgrade(model, "afi")        # outputs are the same to the last bit until it is trained
>>> print(report)
>>> save_delta(model, "afi.safetensors")  # only what was added or trained
>>> downgrade(model)                      # as if nothing had been
"""

from featlift.upgrading.delta import load_delta, save_delta
from featlift.upgrading.extended_level import enable_level, level_distillation_loss
from featlift.upgrading.report import UpgradeReport
from featlift.upgrading.upgrade import added_parameters, downgrade, upgrade

__all__ = [
    "UpgradeReport",
    "added_parameters",
    "downgrade",
    "enable_level",
    "level_distillation_loss",
    "load_delta",
    "save_delta",
    "upgrade",
]
