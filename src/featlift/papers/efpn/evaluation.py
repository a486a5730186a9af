"""Final evaluation of ``featlift train efpn``: EFPN compared with its base detector, and the maps of its extension."""

from typing import Any

import torch
import torch.nn.functional as nnf
from torch import Tensor
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN

from featlift import report
from featlift.checkpoints.json_io import write_json
from featlift.data.config import build_dataset
from featlift.data.fingerprint import dataset_fingerprint
from featlift.data.run_data import read_run_classes
from featlift.detectors.checkpoint import load_detector
from featlift.detectors.efpn_config import efpn_modules
from featlift.evaluation.class_mapping import match_classes
from featlift.evaluation.detection import evaluate_detector
from featlift.features import Features
from featlift.papers.efpn.settings import Settings
from featlift.papers.efpn.training import BASE_DETECTOR_FILE, select_teacher_levels
from featlift.profiling import profile_detectors
from featlift.report.records import RunRecord
from featlift.runs.comparison import compare_runs, format_comparison
from featlift.runs.evaluate import build_report_dataset, format_metrics
from featlift.training import Run

BASELINE_NAME = "before (base detector)"


def evaluate_efpn(detector: GeneralizedRCNN, settings: Settings, run: Run, name: str = "efpn") -> dict[str, Any]:
    """Evaluate T and its base detector M on the validation images; rank 0 writes ``result.json`` of T and a report of both.

    The report has the maps of the paper's Fig. 6: p3x and p2x of the teacher (target) and of the extension. Returns the content of
    ``result.json``; {} on other ranks.
    """
    dataset = build_dataset(settings.data, "val")
    M = load_detector(run.folder / BASE_DETECTOR_FILE)[0].to(run.device)
    detectors = {BASELINE_NAME: M, name: detector}
    classes = read_run_classes(run)
    label_ids = match_classes(classes, dataset) if classes else None
    before, after = (
        evaluate_detector(model, dataset, settings.data.batch_size, run.device, label_ids=label_ids)
        for model in detectors.values()
    )
    if run.rank != 0:
        return {}
    image = dataset[0][0].to(run.device)
    profiles = profile_detectors(detectors, image)
    write_json(run.folder / "detections.json", after.detections)
    metrics = {"metrics": after.metrics, "profile": profiles[name], "base_metrics": before.metrics}
    result = run.write_result({"name": name, **metrics}, dataset_fingerprint(dataset))
    base_run = RunRecord(BASELINE_NAME, before.metrics, profiles[BASELINE_NAME], detections=before.detections)
    runs = [base_run, report.read_run(run.folder)]
    comparison = compare_runs(runs, dataset, 500)
    maps = extended_level_maps(detector.eval(), image)
    report_dataset = build_report_dataset(dataset)
    page = report.write_report(run.folder, runs, [comparison], report_dataset, maps, "EFPN against its base detector")
    print(format_metrics(name, after))
    print(format_comparison(runs, comparison))
    print(page)
    return result


@torch.inference_mode()
def extended_level_maps(T: GeneralizedRCNN, image: Tensor) -> dict[str, Features]:
    """Return the target maps p3x and p2x of ``image [3, H, W]`` as "target", and those of T's extension as "extension" (Fig. 6).

    T must be in evaluation mode.
    """
    F, _ = efpn_modules(T)
    batch = T.transform([image])[0].tensors
    large = nnf.interpolate(batch, scale_factor=2.0, mode="bilinear", align_corners=False)
    return {"target": {"image": batch, **select_teacher_levels(F(large))}, "extension": F.extended_levels(F(batch))}
