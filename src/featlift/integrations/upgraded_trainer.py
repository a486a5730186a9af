"""Trainers that build their network themselves, such as those of Ultralytics, with an upgrade of what they build.

Ultralytics is never imported: its classes come from the user (its license is AGPL-3.0, FeatLift's is Apache-2.0).
"""

from typing import Any, TypeVar, cast

from torch import nn

from featlift.upgrading import UpgradeReport, is_upgraded, upgrade
from featlift.upgrading.example_inputs import decode_example
from featlift.upgrading.original_weights import network_tensors
from featlift.upgrading.rebuild_guards import KEEPS_UPGRADE
from featlift.upgrading.state import copy_tensors, get_upgrade_state

TrainerT = TypeVar("TrainerT", bound=type)


def upgraded_trainer(
    trainer_class: TrainerT, name: str = "", neck: str = "", level: str = "", **options: object
) -> TrainerT:
    """Return a subclass of ``trainer_class`` whose ``get_model`` upgrades the network that it builds.

    ``YOLO("yolo11n.pt").train(trainer=upgraded_trainer(DetectionTrainer, "light"), data="coco8.yaml")`` trains, resumes, averages (EMA) and
    validates the upgraded network; its checkpoints contain it, for ``YOLO("best.pt")``. Weights of an upgraded checkpoint include the added
    ones, so training continues with them.

    Args:
        trainer_class: Class with Ultralytics' ``get_model(cfg, weights, verbose)``: ``DetectionTrainer``, ``SegmentationTrainer``,
            ``RTDETRTrainer``, … or a subclass.
        name: Interpolator or transfer, as in :func:`~featlift.upgrading.upgrade.upgrade`; empty repeats the upgrade of the weights, if any.
        neck: As in ``upgrade``.
        level: As in ``upgrade``.
        options: As in ``upgrade``.

    Raises:
        TypeError: If ``trainer_class`` has no method ``get_model``.
    """
    if not isinstance(trainer_class, type) or not callable(getattr(trainer_class, "get_model", None)):
        raise TypeError(
            f"upgraded_trainer takes the class of a trainer that builds its network in get_model, as Ultralytics' DetectionTrainer does, "
            f"not {trainer_class!r}. For other trainers, upgrade the network and pass it to them."
        )

    class UpgradedTrainer(trainer_class):
        def get_model(self, cfg: Any = None, weights: Any = None, verbose: bool = True) -> nn.Module:
            """Build the network, with the tensors of ``weights``, and upgrade it."""
            model = super().get_model(cfg=cfg, weights=weights, verbose=verbose)
            if isinstance(weights, nn.Module) and is_upgraded(weights):
                report = _repeat_upgrade(model, weights, (name, level, options))
            else:
                report = upgrade(model, name, neck, level=level, keep_weights=False, **options)
            if verbose:
                print(report)
            return model

    setattr(UpgradedTrainer, KEEPS_UPGRADE, True)
    UpgradedTrainer.__name__ = f"Upgraded{trainer_class.__name__}"
    return cast(TrainerT, UpgradedTrainer)


def _repeat_upgrade(
    model: nn.Module, upgraded: nn.Module, requested: tuple[str, str, dict[str, object]]
) -> UpgradeReport:
    """Upgrade ``model`` as the network ``upgraded`` and copy the added tensors.

    Raises:
        ValueError: If another upgrade was ``requested``, as (name, level, options).
    """
    state = get_upgrade_state(upgraded)
    actual = state.name, state.level, state.options
    if requested[0] and requested != actual:
        raise ValueError(
            f"The weights have the upgrade {_format_upgrade(actual)}, the trainer asks for {_format_upgrade(requested)}. Use "
            "upgraded_trainer(trainer_class) to continue with theirs, or featlift.downgrade the weights first."
        )
    example = decode_example(state.example)
    report = upgrade(model, state.name, state.neck, example, state.level, keep_weights=False, **state.options)
    own, theirs = network_tensors(model), network_tensors(upgraded)
    originals = get_upgrade_state(model).original_weights
    copy_tensors(model, {name: theirs[name] for name in own if name not in originals.names})
    if all(name in theirs and theirs[name].shape == own[name].shape for name in originals.names):
        get_upgrade_state(model).original_weights = state.original_weights
    return report


def _format_upgrade(settings: tuple[str, str, dict[str, object]]) -> str:
    name, level, options = settings
    arguments = [f"'{name}'", *([f"level='{level}'"] if level else []), *(f"{k}={v!r}" for k, v in options.items())]
    return f"({', '.join(arguments)})"
