"""What ``featlift train efpn`` ends with: EFPN measured beside the detector that it began as, and what its extension has learned."""

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

BASELINE_NAME = "the same detector before"


def evaluate_efpn(detector: GeneralizedRCNN, settings: efpn.Settings, run: Run) -> dict[str, Any]:
    """Measure T and M on the validation pictures; write ``result.json`` about T and a page about both. Process 0 does it.

    The page has the maps of the paper's Fig. 6: what p3x and p2x should be, beside what they are.
    """
    if run.rank != 0:
        return {}
    shown = baseline.build_dataset(settings.data, "val")
    M = baseline.load_detector(run.folder / efpn.BASE_DETECTOR_FILE)[0].to(run.device)
    both = {BASELINE_NAME: M, "efpn": detector}
    before, after = (evaluate_detector(one, shown, settings.data.batch_size, run.device) for one in both.values())
    cost = profile_detectors(both, shown[0][0].to(run.device))
    write_json(run.folder / "detections.json", after.detections)
    found = {"name": "efpn", "metrics": after.metrics, "cost": cost["efpn"], "before": before.metrics}
    result = run.write_result(found, dataset_fingerprint(shown))
    start = RunRecord(BASELINE_NAME, before.metrics, cost[BASELINE_NAME], detections=before.detections)
    runs = [start, report.read_run(run.folder)]
    compared = compare.compare_runs(runs, shown, 500)
    maps = efpn.extended_level_maps(detector.eval(), shown[0][0].to(run.device))
    page = report.write_report(
        run.folder, runs, [compared], build_report_dataset(shown), maps, "EFPN beside the detector it began as"
    )
    print(format_metrics("efpn", after))
    print(compare.format_comparison(runs, compared))
    print(page)
    return result
