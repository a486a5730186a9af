"""``featlift train``: train a paper's method in a run folder, evaluate it and write a report."""

import importlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from featlift import report
from featlift.data.dataset import ImageDataset
from featlift.data.fingerprint import dataset_fingerprint
from featlift.device import resolve_device
from featlift.evaluation.detection import EvaluationResult, evaluate_detector
from featlift.evaluation.profiling import profile_detectors
from featlift.papers import baseline
from featlift.report.page import ReportDataset
from featlift.runs.announce import describe_training
from featlift.runs.refused import discard_refused_run
from featlift.training import Run
from featlift.training.run import write_json


@dataclass(frozen=True)
class RunOptions:
    """Run folder, device, precision and logging of a training run.

    Attributes:
        run: Run folder; training resumes if the folder contains an unfinished run.
        stop_after: Last stage to run: "teacher", "interpolator", "extractor" (afi-gan, srf-gan) or "target".
        seed: Random seed.
        device: Device: "auto" (a GPU if available), "cpu" or "cuda".
        precision: "fp32", or autocast to "bf16" or "fp16".
        save_every: Steps between checkpoints.
        log_every: Steps between log lines.
        tensorboard: Also write TensorBoard files.
    """

    run: Path = Path("runs/train")
    stop_after: str = "target"
    seed: int = 0
    device: str = "auto"
    precision: str = "fp32"
    save_every: int = 500
    log_every: int = 20
    tensorboard: bool = False


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


def open_run(settings: Any, run_options: RunOptions) -> Run:
    """Open the run folder of a training run, new or resumed."""
    return Run(
        run_options.run,
        settings,
        run_options.seed,
        run_options.device,
        run_options.precision,
        run_options.save_every,
        run_options.log_every,
        run_options.tensorboard,
    )


def evaluate_and_report(detector: nn.Module, data: baseline.DataConfig, run: Run, name: str) -> dict[str, Any]:
    """Evaluate ``detector`` on the validation images of ``data`` on process 0; write results and report, return ``result.json``."""
    if run.rank != 0:
        return {}
    dataset = baseline.build_dataset(data, "val")
    evaluation = evaluate_detector(detector, dataset, data.batch_size, run.device)
    profile = profile_detectors({name: detector}, dataset[0][0].to(run.device))[name]
    write_json(run.folder / "detections.json", evaluation.detections)
    content = {"name": name, "metrics": evaluation.metrics, "profile": profile}
    result = run.write_result(content, dataset_fingerprint(dataset))
    report.write_report(run.folder, [report.read_run(run.folder)], dataset=build_report_dataset(dataset))
    print(format_metrics(name, evaluation))
    print(run.folder / "report.html")
    return result


def evaluate_super_resolver(super_resolver: nn.Module, settings: Any, run: Run) -> dict[str, Any]:
    """Evaluate a super-resolution network (FDSR) by the AP of its training detector on upscaled images."""
    from featlift.experiments import super_resolution_detection

    config = super_resolution_detection.SRDetectionConfig(
        detector=settings.feature_extractor.network, super_resolvers={"fdsr": str(run.folder)}, device=str(run.device)
    )
    results = super_resolution_detection.evaluate_sr_detection(config, run.folder)
    print(super_resolution_detection.format_sr_detection(results["pipelines"]))
    return run.write_result({"name": "fdsr", "pipelines": results["pipelines"]})


def evaluate_generator(generator: nn.Module, settings: Any, run: Run) -> dict[str, Any]:
    """Evaluate a descriptor generator (FSR-GAN): mAP at every ratio with raw and super-resolved queries."""
    from featlift.papers import fsr_gan
    from featlift.retrieval.linear_baselines import IdentityGenerator

    results = fsr_gan.evaluate_generators({"raw": IdentityGenerator(), "fsr-gan": generator.eval()}, settings)
    for ratio in settings.ratios:
        print(
            f"1/{ratio:g} per side: "
            + "  ".join(f"{name} mAP {100 * by_ratio[ratio]:.1f}" for name, by_ratio in results["map"].items())
        )
    return run.write_result({"name": "fsr-gan", **results})


def _evaluate_efpn(detector: Any, settings: Any, run: Run) -> dict[str, Any]:
    """Evaluate EFPN and its base detector; see `featlift.experiments.efpn_evaluation`."""
    from featlift.experiments import efpn_evaluation

    return efpn_evaluation.evaluate_efpn(detector, settings, run)


PAPER_EVALUATORS = {"fdsr": evaluate_super_resolver, "fsr-gan": evaluate_generator, "efpn": _evaluate_efpn}
"""Evaluation functions of the papers whose result is not a single detector."""


def build_report_dataset(dataset: ImageDataset) -> ReportDataset:
    """Ground truth and images of ``dataset`` for a report."""
    ground_truth = dataset.coco()
    index = {image["id"]: i for i, image in enumerate(ground_truth["images"])}
    return ReportDataset(ground_truth, lambda image_id: dataset[index[image_id]][0])


def format_metrics(name: str, evaluation: EvaluationResult) -> str:
    """Format AP and AP by size in per cent, one line per IoU type."""
    keys = ("ap", "ap50", "ap_tiny", "ap_small", "ap_medium", "ap_large", "ar")
    lines = [
        f"{name}, {iou_type}: "
        + "  ".join(f"{key} {100 * metrics[key]:.1f}" for key in keys if metrics.get(key) is not None)
        for iou_type, metrics in evaluation.metrics.items()
    ]
    return "\n".join(lines)


def read_result(folder: Path) -> dict[str, Any]:
    """Read ``result.json`` of a run.

    Raises:
        FileNotFoundError: If the folder is not a run, or the run is not finished.
    """
    path = folder / "result.json"
    if not path.exists():
        raise FileNotFoundError(
            f"{folder} has no result.json: it is not a run, or not finished. Run the training again to resume."
        )
    return json.loads(path.read_text())
