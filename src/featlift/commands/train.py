"""``featlift train``: train a paper's method in a run folder, evaluate it and write a report."""

import importlib
import os
from typing import Any

from torch import nn

from featlift.device import resolve_device
from featlift.papers.fsr_gan.evaluation import evaluate_generators
from featlift.runs.announce import describe_training
from featlift.runs.evaluate import evaluate_and_report
from featlift.runs.options import RunOptions, open_run
from featlift.runs.refused import discard_refused_run
from featlift.training import Run


def train(paper: str, settings: Any, run_options: RunOptions) -> dict[str, Any]:
    """Train ``paper`` ("baseline", "afi-gan", …) with ``settings`` and evaluate the resulting detector.

    Writes ``result.json``, ``detections.json`` and ``report.html`` into the run folder. With ``run_options.stop_after`` the detector of
    that stage is evaluated ("extractor" is A3 of AFI-GAN's Table 4), and the result is named "afi-gan, extractor"; after
    "interpolator" there is no detector to evaluate. Returns the content of ``result.json`` (empty without evaluation). One line is
    printed before the training; a training that is refused before its first step leaves no run folder.
    """
    with discard_refused_run(run_options.run):
        device = str(resolve_device(run_options.device))
        if os.environ.get("RANK", "0") == "0":
            print(describe_training(paper, settings, device, run_options.stop_after))
        return _train_and_evaluate(paper, settings, run_options)


def _train_and_evaluate(paper: str, settings: Any, run_options: RunOptions) -> dict[str, Any]:
    module = importlib.import_module(f"featlift.papers.{paper.replace('-', '_')}")
    with open_run(settings, run_options) as run:
        if not hasattr(module, "STAGES"):
            model = module.train(settings, run)
            if paper in PAPER_EVALUATORS:
                return PAPER_EVALUATORS[paper](model, settings, run)
            return evaluate_and_report(model, settings.data, run, paper)
        model = module.train(settings, run, run_options.stop_after)
        if run_options.stop_after == "interpolator":
            return {}
        name = paper if run_options.stop_after == "target" else f"{paper}, {run_options.stop_after}"
        return evaluate_and_report(model, settings.data, run, name)


def evaluate_super_resolver(super_resolver: nn.Module, settings: Any, run: Run) -> dict[str, Any]:
    """Evaluate a super-resolution network (FDSR) by the AP of its training detector on upscaled images."""
    from featlift.papers.fdsr import evaluation as super_resolution_detection

    config = super_resolution_detection.SRDetectionConfig(
        detector=settings.feature_extractor.network, super_resolvers={"fdsr": str(run.folder)}, device=str(run.device)
    )
    results = super_resolution_detection.evaluate_sr_detection(config, run.folder)
    print(super_resolution_detection.format_sr_detection(results["pipelines"]))
    return run.write_result({"name": "fdsr", "pipelines": results["pipelines"]})


def evaluate_generator(generator: nn.Module, settings: Any, run: Run) -> dict[str, Any]:
    """Evaluate a descriptor generator (FSR-GAN): mAP at every ratio with raw and super-resolved queries."""
    from featlift.retrieval.linear_baselines import IdentityGenerator

    results = evaluate_generators({"raw": IdentityGenerator(), "fsr-gan": generator.eval()}, settings)
    for ratio in settings.ratios:
        print(
            f"1/{ratio:g} per side: "
            + "  ".join(f"{name} mAP {100 * by_ratio[ratio]:.1f}" for name, by_ratio in results["map"].items())
        )
    return run.write_result({"name": "fsr-gan", **results})


def _evaluate_efpn(detector: Any, settings: Any, run: Run) -> dict[str, Any]:
    """Evaluate EFPN and its base detector; see `featlift.papers.efpn.evaluation`."""
    from featlift.papers.efpn import evaluation as efpn_evaluation

    return efpn_evaluation.evaluate_efpn(detector, settings, run)


PAPER_EVALUATORS = {"fdsr": evaluate_super_resolver, "fsr-gan": evaluate_generator, "efpn": _evaluate_efpn}
"""Evaluation functions of the papers whose result is not a single detector."""
