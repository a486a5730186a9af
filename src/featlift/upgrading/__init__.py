"""Add learned interpolators or an extended pyramid level to an existing detector, and remove them again.

>>> report = upgrade(model, "afi")        # outputs are bit-identical until the adapters are trained
>>> print(report)
>>> save_delta(model, "afi.safetensors")  # only added or trained tensors
>>> downgrade(model)                      # restores the original model
"""

from featlift.upgrading.delta import load_delta, save_delta
from featlift.upgrading.extended_level import enable_level, level_distillation_loss
from featlift.upgrading.report import UpgradeReport
from featlift.upgrading.state import added_parameters, is_upgraded
from featlift.upgrading.upgrade import downgrade, upgrade

__all__ = [
    "UpgradeReport",
    "added_parameters",
    "downgrade",
    "enable_level",
    "is_upgraded",
    "level_distillation_loss",
    "load_delta",
    "save_delta",
    "upgrade",
]
