"""The methods that FeatLift trains: their settings, stages, training and evaluation, as one literal table."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from featlift import baseline
from featlift.papers import afi_gan, efpn, fdsr, fsr_gan, light, srf_gan
from featlift.papers.afi_gan.settings import STAGES as AFI_GAN_STAGES
from featlift.papers.efpn.evaluation import evaluate_efpn
from featlift.papers.fdsr.evaluation import evaluate_super_resolver, evaluate_super_resolver_run
from featlift.papers.fsr_gan.evaluation import evaluate_generator, evaluate_generator_run
from featlift.papers.light.settings import STAGES as LIGHT_STAGES
from featlift.registry import check_choice
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
        presets: Names of the presets besides "paper"; each is a classmethod of ``settings``.
        stages: Stages in order, for methods that can stop after each; the last trains the result.
        evaluate: Evaluates the trained model, ``evaluate(model, settings, run, name)``, and writes the run's ``result.json``.
        evaluate_run: Evaluates a finished run, ``evaluate_run(run folder or file, data, split, out, inference)``.
    """

    summary: str
    settings: type
    train: Callable[..., Any]
    presets: tuple[str, ...]
    stages: tuple[str, ...] = ()
    evaluate: Callable[[Any, Any, Run, str], dict[str, Any]] = evaluate_trained_detector
    evaluate_run: Callable[[str, str, str, str, InferenceOptions], dict[str, Any]] = evaluate_detector_file

    def preset(self, name: str) -> Any:
        """Return the settings of a preset; "paper" stands for the defaults of settings without a classmethod of that name.

        Raises:
            ValueError: If there is no such preset.
        """
        check_choice(name, ("paper", *self.presets), "preset")
        return self.settings() if name not in self.presets else getattr(self.settings, name)()

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
        ("quick", "finetune", "dense", "transformer"),
    ),
    "afi-gan": Paper(
        "AFI-GAN: interpolator, extractor and target detector in three stages",
        afi_gan.Settings,
        afi_gan.train,
        ("quick", "finetune", "official", "dense", "transformer"),
        AFI_GAN_STAGES,
    ),
    "srf-gan": Paper(
        "SRF-GAN: the same stages with residual blocks and batch norm",
        srf_gan.Settings,
        srf_gan.train,
        ("quick", "finetune", "official", "dense", "transformer"),
        AFI_GAN_STAGES,
    ),
    "efpn": Paper(
        "EFPN: an extended pyramid level for small objects, distilled from the detector at 2x",
        efpn.Settings,
        efpn.train,
        ("quick", "finetune", "official"),
        evaluate=evaluate_efpn,
    ),
    "light": Paper(
        "a light interpolator, distilled from a heavy one, and its detector fine-tuned",
        light.Settings,
        light.train,
        ("quick", "finetune"),
        LIGHT_STAGES,
    ),
    "fsr-gan": Paper(
        "FSR-GAN: super-resolution of the descriptors of low-resolution queries",
        fsr_gan.Settings,
        fsr_gan.train,
        ("quick", "paper"),
        evaluate=evaluate_generator,
        evaluate_run=evaluate_generator_run,
    ),
    "fdsr": Paper(
        "FDSR: image super-resolution trained with a detector's features",
        fdsr.Settings,
        fdsr.train,
        ("quick", "short"),
        evaluate=evaluate_super_resolver,
        evaluate_run=evaluate_super_resolver_run,
    ),
}
