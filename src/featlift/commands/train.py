"""``featlift train``: a paper's training in a run folder, measured and reported when it is done."""

import importlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from featlift import report
from featlift.data.dataset import Pictures
from featlift.data.fingerprint import fingerprint
from featlift.evaluation.detection import Evaluation, evaluate
from featlift.evaluation.profiling import costs
from featlift.papers import baseline
from featlift.report.page import Evidence
from featlift.training import Run
from featlift.training.run import write_json


@dataclass(frozen=True)
class Running:
    """Where and how a training runs.

    Attributes:
        run: the folder; the same folder again means: go on.
        until: the last stage to run: "teacher", "interpolator", "extractor" (afi-gan, srf-gan) or "target".
        seed: of everything that is drawn.
        device: "auto" (a GPU if there is one), "cpu", "cuda".
        precision: "fp32", or autocast to "bf16" or "fp16".
        save_every: steps between checkpoints.
        log_every: steps that make a line of the log.
        tensorboard: write TensorBoard files too.
    """

    run: Path = Path("runs/train")
    until: str = "target"
    seed: int = 0
    device: str = "auto"
    precision: str = "fp32"
    save_every: int = 500
    log_every: int = 20
    tensorboard: bool = False


def train(paper: str, settings: Any, running: Running) -> dict[str, Any]:
    """Train ``paper`` ("baseline", "afi-gan", …) with its ``settings`` and measure the detector that comes out.

    Writes ``result.json``, ``detections.json`` and ``report.html`` into the run. With ``running.until`` the detector of that stage is
    measured (A3 of AFI-GAN's Table 4 is "extractor") and the result bears the stage's name, "afi-gan, extractor"; an interpolator alone
    cannot be. Returns what ``result.json`` holds (empty if nothing was measured).
    """
    module = importlib.import_module(f"featlift.papers.{paper.replace('-', '_')}")
    with open_run(settings, running) as run:
        if not hasattr(module, "STAGES"):
            made = module.train(settings, run)
            return OTHERS[paper](made, settings, run) if paper in OTHERS else conclude(made, settings.data, run, paper)
        made = module.train(settings, run, running.until)
        if running.until == "interpolator":
            return {}
        name = paper if running.until == "target" else f"{paper}, {running.until}"
        return conclude(made, settings.data, run, name)


def open_run(settings: Any, running: Running) -> Run:
    """The run folder of a training, made or found again."""
    return Run(
        running.run,
        settings,
        running.seed,
        running.device,
        running.precision,
        running.save_every,
        running.log_every,
        running.tensorboard,
    )


def conclude(detector: nn.Module, data: baseline.Data, run: Run, name: str) -> dict[str, Any]:
    """Measure ``detector`` on the validation pictures of ``data`` and write down what came out; process 0 does it."""
    if run.rank != 0:
        return {}
    shown = baseline.pictures(data, "val")
    measured = evaluate(detector, shown, data.batch, run.device)
    cost = costs({name: detector}, shown[0][0].to(run.device))[name]
    write_json(run.folder / "detections.json", measured.detections)
    result = run.finish({"name": name, "metrics": measured.metrics, "cost": cost}, fingerprint(shown))
    report.write(run.folder, [report.read_run(run.folder)], evidence=evidence(shown))
    print(summary(name, measured))
    print(f"{run.folder / 'report.html'}")
    return result


def through_sr(network: nn.Module, settings: Any, run: Run) -> dict[str, Any]:
    """Measure a super-resolution network (FDSR's) by what the detector that taught it finds in enlarged pictures."""
    from featlift.experiments import super_resolution_detection

    how = super_resolution_detection.Measuring(
        detector=settings.prior.network, through={"fdsr": str(run.folder)}, device=str(run.device)
    )
    found = super_resolution_detection.measure(how, run.folder)
    print(super_resolution_detection.table(found["rows"]))
    return run.finish({"name": "fdsr", "rows": found["rows"]})


def lifting(generator: nn.Module, settings: Any, run: Run) -> dict[str, Any]:
    """Measure a descriptor generator (FSR-GAN's): mean average precision at every ratio, raw and lifted."""
    from featlift.papers import fsr_gan
    from featlift.retrieval.linear_baselines import Identity

    found = fsr_gan.measure({"raw": Identity(), "fsr-gan": generator.eval()}, settings)
    for ratio in settings.ratios:
        print(
            f"1/{ratio:g} per side: "
            + "  ".join(f"{name} mAP {100 * by[ratio]:.1f}" for name, by in found["map"].items())
        )
    return run.finish({"name": "fsr-gan", **found})


def beside_its_start(detector: Any, settings: Any, run: Run) -> dict[str, Any]:
    """Measure EFPN beside the detector that it began as; see `featlift.experiments.efpn_evaluation`."""
    from featlift.experiments import efpn_evaluation

    return efpn_evaluation.beside_its_start(detector, settings, run)


OTHERS = {"fdsr": through_sr, "fsr-gan": lifting, "efpn": beside_its_start}
"""Papers that end otherwise than with one detector to be measured → how what they make is measured."""


def evidence(shown: Pictures) -> Evidence:
    """Ground truth and pictures for a report."""
    truth = shown.coco()
    index = {image["id"]: i for i, image in enumerate(truth["images"])}
    return Evidence(truth, lambda image_id: shown[index[image_id]][0])


def summary(name: str, measured: Evaluation) -> str:
    """One line for each kind: AP and AP by size, in per cent."""
    keys = ("ap", "ap50", "ap_tiny", "ap_small", "ap_medium", "ap_large", "ar")
    lines = [
        f"{name}, {kind}: "
        + "  ".join(f"{key} {100 * numbers[key]:.1f}" for key in keys if numbers.get(key) is not None)
        for kind, numbers in measured.metrics.items()
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
