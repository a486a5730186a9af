"""The methods that FeatLift trains: their settings, stages, training and evaluation, as one literal table."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from featlift import baseline
from featlift.papers import afi_gan, efpn, fdsr, fsr_gan, light, srf_gan
from featlift.papers.afi_gan.self_training import describe_training
from featlift.papers.afi_gan.settings import STAGES as AFI_GAN_STAGES
from featlift.papers.efpn.evaluation import evaluate_efpn
from featlift.papers.efpn.training import describe_efpn_training
from featlift.papers.fdsr.description import describe_fdsr_training
from featlift.papers.fdsr.evaluation import (
    evaluate_super_resolver,
    evaluate_super_resolver_run,
)
from featlift.papers.fsr_gan.evaluation import (
    describe_fsr_gan_training,
    evaluate_generator,
    evaluate_generator_run,
)
from featlift.papers.light.settings import STAGES as LIGHT_STAGES
from featlift.registry import look_up
from featlift.runs.announce import describe_detector_training
from featlift.runs.detector_evaluation import evaluate_detector_file
from featlift.runs.evaluate import evaluate_and_report
from featlift.runs.options import InferenceOptions
from featlift.training import Run

WITHOUT_DETECTOR = ("interpolator",)
"""Stages that train no detector, so that there is nothing to evaluate after them."""


def evaluate_trained_detector(model: nn.Module, settings: Any, run: Run, name: str) -> dict[str, Any]:
    """Evaluate a detector at the end of its training; see `featlift.runs.evaluate`."""
    return evaluate_and_report(model, settings.data, run, name)


@dataclass(frozen=True)
class Paper:
    """A trainable method.

    Attributes:
        summary: One line for the command line.
        settings: Settings dataclass; its presets are classmethods.
        train: Trains in a run folder: ``train(settings, run)``, with stages ``train(settings, run, stop_after)``.
        presets: Preset → the function that builds its settings.
        stages: Stages in order, for methods that can stop after each; the last trains the result.
        evaluate: Evaluates the trained model, ``evaluate(model, settings, run, name)``, and writes the run's ``result.json``.
        evaluate_run: Evaluates a finished run, ``evaluate_run(run folder or file, data, split, out, inference)``.
        describe: Describes a training before it starts, ``describe(settings, stop_after)``, and refuses settings that cannot work.
    """

    summary: str
    settings: type
    train: Callable[..., Any]
    presets: Mapping[str, Callable[[], Any]]
    stages: tuple[str, ...] = ()
    evaluate: Callable[[Any, Any, Run, str], dict[str, Any]] = evaluate_trained_detector
    evaluate_run: Callable[[str, str, str, str, InferenceOptions], dict[str, Any]] = evaluate_detector_file
    describe: Callable[[Any, str], str] = describe_detector_training

    def preset(self, name: str) -> Any:
        """Return the settings of the preset ``name``.

        Raises:
            ValueError: If there is no such preset.
        """
        return look_up(self.presets, name, "preset")()

    def run(self, settings: Any, run: Run, stop_after: str, name: str) -> dict[str, Any]:
        """Train up to ``stop_after`` (empty: to the end) and evaluate the result; returns the content of ``result.json``."""
        if not self.stages:
            return self.evaluate(self.train(settings, run), settings, run, name)
        stop_after = stop_after or self.stages[-1]
        model = self.train(settings, run, stop_after)
        if stop_after in WITHOUT_DETECTOR:
            return {}
        return self.evaluate(model, settings, run, name if stop_after == self.stages[-1] else f"{name}, {stop_after}")


PAPERS: dict[str, Paper] = {
    "baseline": Paper(
        "a detector with any interpolator in its pyramid, trained with the detection losses",
        baseline.Settings,
        baseline.train,
        {
            "paper": baseline.Settings,
            "quick": baseline.Settings.quick,
            "finetune": baseline.Settings.finetune,
            "dense": baseline.Settings.dense,
            "resnest": baseline.Settings.resnest,
            "transformer": baseline.Settings.transformer,
        },
    ),
    "afi-gan": Paper(
        "AFI-GAN: interpolator, extractor and target detector in three stages",
        afi_gan.Settings,
        afi_gan.train,
        {
            "paper": afi_gan.Settings,
            "quick": afi_gan.Settings.quick,
            "finetune": afi_gan.Settings.finetune,
            "official": afi_gan.Settings.official,
            "dense": afi_gan.Settings.dense,
            "resnest": afi_gan.Settings.resnest,
            "transformer": afi_gan.Settings.transformer,
        },
        AFI_GAN_STAGES,
        describe=describe_training,
    ),
    "srf-gan": Paper(
        "SRF-GAN: the same stages with residual blocks and batch norm",
        srf_gan.Settings,
        srf_gan.train,
        {
            "paper": srf_gan.Settings,
            "quick": srf_gan.Settings.quick,
            "finetune": srf_gan.Settings.finetune,
            "official": srf_gan.Settings.official,
            "dense": srf_gan.Settings.dense,
            "resnest": srf_gan.Settings.resnest,
            "transformer": srf_gan.Settings.transformer,
        },
        AFI_GAN_STAGES,
        describe=describe_training,
    ),
    "efpn": Paper(
        "EFPN: an extended pyramid level for small objects, distilled from the detector at 2x",
        efpn.Settings,
        efpn.train,
        {
            "paper": efpn.Settings.paper,
            "coco": efpn.Settings.coco,
            "recommended": efpn.Settings,
            "quick": efpn.Settings.quick,
            "finetune": efpn.Settings.finetune,
            "official": efpn.Settings.official,
        },
        evaluate=evaluate_efpn,
        describe=describe_efpn_training,
    ),
    "light": Paper(
        "a light interpolator, distilled from a heavy one, and its detector fine-tuned",
        light.Settings,
        light.train,
        {
            "paper": light.Settings,
            "quick": light.Settings.quick,
            "finetune": light.Settings.finetune,
        },
        LIGHT_STAGES,
    ),
    "fsr-gan": Paper(
        "FSR-GAN: super-resolution of the descriptors of low-resolution queries",
        fsr_gan.Settings,
        fsr_gan.train,
        {
            "paper": fsr_gan.Settings.paper,
            "quick": fsr_gan.Settings.quick,
        },
        evaluate=evaluate_generator,
        evaluate_run=evaluate_generator_run,
        describe=describe_fsr_gan_training,
    ),
    "fdsr": Paper(
        "FDSR: image super-resolution trained with a detector's features",
        fdsr.Settings,
        fdsr.train,
        {
            "paper": fdsr.Settings,
            "quick": fdsr.Settings.quick,
            "short": fdsr.Settings.short,
        },
        evaluate=evaluate_super_resolver,
        evaluate_run=evaluate_super_resolver_run,
        describe=describe_fdsr_training,
    ),
}
