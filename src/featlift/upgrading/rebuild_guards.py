"""Guards of methods of other libraries that replace the network by a newly built one, and so would drop an upgrade without a word.

The libraries are never imported. Once a network is upgraded, or read from a checkpoint, the classes that the user has loaded get a check:
with an upgraded network, the method raises an error that says what to do. Nothing else changes.
"""

import functools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from torch import nn

KEEPS_UPGRADE = "keeps_upgrade"
"""Attribute of trainer classes that upgrade what they build."""

GUARDED = "_featlift_guarded"


@dataclass(frozen=True)
class RebuildGuard:
    """A method of another library that builds its network anew.

    Attributes:
        module: Module of the class.
        method: "Class.method".
        network: Dotted name of the attribute with the network.
        advice: What to do instead.
    """

    module: str
    method: str
    network: str
    advice: str


REBUILD_GUARDS = (
    RebuildGuard(
        "ultralytics.engine.model",
        "Model.train",
        "model",
        "Ultralytics builds the network to train from its YAML file. Train with "
        "trainer=featlift.upgraded_trainer(DetectionTrainer, 'INTERPOLATOR') (or the trainer class of your task), which upgrades what it "
        "builds, or give your own trainer class",
    ),
    *(
        RebuildGuard(
            "libreyolo.models.base.model",
            f"BaseModel.{method}",
            "model",
            "LibreYOLO builds the network again for another number of classes and for training from scratch. Build it with the classes "
            "of your data (nb_classes=…) before the upgrade",
        )
        for method in ("_rebuild_for_new_classes", "_reset_for_scratch")
    ),
    RebuildGuard(
        "rfdetr.detr",
        "RFDETR.train",
        "model.model",
        "RF-DETR builds the network to train from its configuration. Upgrade RFDETRModelModule(model_config, train_config).model "
        "(rfdetr.training) and pass that module to build_trainer(…).fit(…)",
    ),
)


def guard_rebuilds(is_upgraded: Callable[[object], bool]) -> None:
    """Add the check to the classes of :data:`REBUILD_GUARDS` that are loaded; ``is_upgraded`` tells whether a network is upgraded."""
    for guard in REBUILD_GUARDS:
        class_name, _, method = guard.method.partition(".")
        owner = getattr(sys.modules.get(guard.module), class_name, None)
        original = vars(owner).get(method) if owner is not None else None
        if original is not None and not hasattr(original, GUARDED):
            setattr(owner, method, _guarded(original, guard, is_upgraded))


def _guarded(original: Callable[..., Any], guard: RebuildGuard, is_upgraded: Callable[[object], bool]) -> Any:
    @functools.wraps(original)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        network = attrgetter(guard.network)(self)
        trainer = kwargs.get("trainer", args[0] if args else None)
        if isinstance(network, nn.Module) and is_upgraded(network) and not _keeps_upgrade(trainer):
            raise RuntimeError(
                f"{type(self).__name__}.{method.__name__} would drop the upgrade of this {type(network).__name__} and continue with the "
                f"plain network. {guard.advice}; or featlift.downgrade the network first."
            )
        return original(self, *args, **kwargs)

    setattr(method, GUARDED, True)
    return method


def _keeps_upgrade(trainer: Any) -> bool:
    """Return whether ``trainer`` is a class that upgrades what it builds, or may do so because it has its own ``get_model``."""
    if not isinstance(trainer, type):
        return False
    get_model = getattr(trainer, "get_model", None)
    own = get_model is not None and not get_model.__module__.startswith("ultralytics.")
    return hasattr(trainer, KEEPS_UPGRADE) or own
