"""``featlift train``: a paper's training in a run folder, measured and reported when it is done."""

import importlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from featlift import report
from featlift.data.dataset import ImageDataset
from featlift.data.fingerprint import dataset_fingerprint
from featlift.evaluation.detection import EvaluationResult, evaluate_detector
from featlift.evaluation.profiling import profile_detectors
from featlift.papers import baseline
from featlift.report.page import ReportDataset
from featlift.training import Run
from featlift.training.run import write_json


@dataclass(frozen=True)
class RunOptions:
    """Where and how a training runs.

    Attributes:
        run: the folder; the same folder again means: go on.
        stop_after: the last stage to run: "teacher", "interpolator", "extractor" (afi-gan, srf-gan) or "target".
        seed: of everything that is drawn.
        device: "auto" (a GPU if there is one), "cpu", "cuda".
        precision: "fp32", or autocast to "bf16" or "fp16".
        save_every: steps between checkpoints.
        log_every: steps that make a line of the log.
        tensorboard: write TensorBoard files too.
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
    """Train ``paper`` ("baseline", "afi-gan", …) with its ``settings`` and measure the detector that comes out.

    Writes ``result.json``, ``detections.json`` and ``report.html`` into the run. With ``running.until`` the detector of that stage is
    measured (A3 of AFI-GAN's Table 4 is "extractor") and the result bears the stage's name, "afi-gan, extractor"; an interpolator alone
    cannot be. Returns what ``result.json`` holds (empty if nothing was measured).
    """
    module = importlib.import_module(f"featlift.papers.{paper.replace('-', '_')}")
    with open_run(settings, run_options) as run:
        if not hasattr(module, "STAGES"):
            made = module.train(settings, run)
            return (
                PAPER_EVALUATORS[paper](made, settings, run)
                if paper in PAPER_EVALUATORS
                else evaluate_and_report(made, settings.data, run, paper)
            )
        made = module.train(settings, run, run_options.stop_after)
        if run_options.stop_after == "interpolator":
            return {}
        name = paper if run_options.stop_after == "target" else f"{paper}, {run_options.stop_after}"
        return evaluate_and_report(made, settings.data, run, name)


def open_run(settings: Any, run_options: RunOptions) -> Run:
    """The run folder of a training, made or found again."""
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
    """Measure ``detector`` on the validation pictures of ``data`` and write down what came out; process 0 does it."""
    if run.rank != 0:
        return {}
    shown = baseline.build_dataset(data, "val")
    measured = evaluate_detector(detector, shown, data.batch_size, run.device)
    cost = profile_detectors({name: detector}, shown[0][0].to(run.device))[name]
    write_json(run.folder / "detections.json", measured.detections)
    result = run.write_result({"name": name, "metrics": measured.metrics, "cost": cost}, dataset_fingerprint(shown))
    report.write_report(run.folder, [report.read_run(run.folder)], dataset=build_report_dataset(shown))
    print(format_metrics(name, measured))
    print(f"{run.folder / 'report.html'}")
    return result


def evaluate_super_resolver(super_resolver: nn.Module, settings: Any, run: Run) -> dict[str, Any]:
    """Measure a super-resolution network (FDSR's) by what the detector that taught it finds in enlarged pictures."""
    from featlift.experiments import super_resolution_detection

    how = super_resolution_detection.SRDetectionConfig(
        detector=settings.prior.network, super_resolvers={"fdsr": str(run.folder)}, device=str(run.device)
    )
    found = super_resolution_detection.evaluate_sr_detection(how, run.folder)
    print(super_resolution_detection.format_sr_detection(found["rows"]))
    return run.write_result({"name": "fdsr", "rows": found["rows"]})


def evaluate_generator(generator: nn.Module, settings: Any, run: Run) -> dict[str, Any]:
    """Measure a descriptor generator (FSR-GAN's): mean average precision at every ratio, raw and lifted."""
    from featlift.papers import fsr_gan
    from featlift.retrieval.linear_baselines import IdentityGenerator

    found = fsr_gan.evaluate_generators({"raw": IdentityGenerator(), "fsr-gan": generator.eval()}, settings)
    for ratio in settings.ratios:
        print(
            f"1/{ratio:g} per side: "
            + "  ".join(f"{name} mAP {100 * by[ratio]:.1f}" for name, by in found["map"].items())
        )
    return run.write_result({"name": "fsr-gan", **found})


def _evaluate_efpn(detector: Any, settings: Any, run: Run) -> dict[str, Any]:
    """Measure EFPN beside the detector that it began as; see `featlift.experiments.efpn_evaluation`."""
    from featlift.experiments import efpn_evaluation

    return efpn_evaluation.evaluate_efpn(detector, settings, run)


PAPER_EVALUATORS = {"fdsr": evaluate_super_resolver, "fsr-gan": evaluate_generator, "efpn": _evaluate_efpn}
"""Papers that end otherwise than with one detector to be measured → how what they make is measured."""


def build_report_dataset(dataset: ImageDataset) -> ReportDataset:
    """Ground truth and pictures for a report."""
    truth = dataset.coco()
    index = {image["id"]: i for i, image in enumerate(truth["images"])}
    return ReportDataset(truth, lambda image_id: dataset[index[image_id]][0])


def format_metrics(name: str, evaluation: EvaluationResult) -> str:
    """One line for each kind: AP and AP by size, in per cent."""
    keys = ("ap", "ap50", "ap_tiny", "ap_small", "ap_medium", "ap_large", "ar")
    lines = [
        f"{name}, {kind}: "
        + "  ".join(f"{key} {100 * numbers[key]:.1f}" for key in keys if numbers.get(key) is not None)
        for kind, numbers in evaluation.metrics.items()
    ]
    return "\n".join(lines)


def read_result(folder: Path) -> dict[str, Any]:
    """``result.json`` of a run.

    Raises:
        FileNotFoundError: if the run has not come to its end.
    """
    path = folder / "result.json"
    if not path.exists():
        raise FileNotFoundError(f"{folder} has no result.json: it is no run, or not finished. Train it again to go on.")
    return json.loads(path.read_text())
