"""Final evaluation of ``featlift train efpn``: EFPN compared with its base detector, and the maps of its extension."""

from typing import Any

from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN

from featlift import report
from featlift.commands import compare
from featlift.commands.train import build_report_dataset, format_metrics
from featlift.data.fingerprint import dataset_fingerprint
from featlift.evaluation.detection import evaluate_detector
from featlift.evaluation.profiling import profile_detectors
from featlift.papers import baseline, efpn
from featlift.report.records import RunRecord
from featlift.training import Run
from featlift.training.run import write_json

BASELINE_NAME = "before (base detector)"


def evaluate_efpn(detector: GeneralizedRCNN, settings: efpn.Settings, run: Run) -> dict[str, Any]:
    """Evaluate T and its base detector M on the validation images; write ``result.json`` of T and a report of both (rank 0 only).

    The report has the maps of the paper's Fig. 6: p3x and p2x of the teacher (target) and of the extension. Returns the content of
    ``result.json``; {} on other ranks.
    """
    if run.rank != 0:
        return {}
    dataset = baseline.build_dataset(settings.data, "val")
    M = baseline.load_detector(run.folder / efpn.BASE_DETECTOR_FILE)[0].to(run.device)
    detectors = {BASELINE_NAME: M, "efpn": detector}
    before, after = (
        evaluate_detector(model, dataset, settings.data.batch_size, run.device) for model in detectors.values()
    )
    image = dataset[0][0].to(run.device)
    profiles = profile_detectors(detectors, image)
    write_json(run.folder / "detections.json", after.detections)
    metrics = {"metrics": after.metrics, "profile": profiles["efpn"], "base_metrics": before.metrics}
    result = run.write_result({"name": "efpn", **metrics}, dataset_fingerprint(dataset))
    base_run = RunRecord(BASELINE_NAME, before.metrics, profiles[BASELINE_NAME], detections=before.detections)
    runs = [base_run, report.read_run(run.folder)]
    comparison = compare.compare_runs(runs, dataset, 500)
    maps = efpn.extended_level_maps(detector.eval(), image)
    report_dataset = build_report_dataset(dataset)
    page = report.write_report(run.folder, runs, [comparison], report_dataset, maps, "EFPN against its base detector")
    print(format_metrics("efpn", after))
    print(compare.format_comparison(runs, comparison))
    print(page)
    return result
