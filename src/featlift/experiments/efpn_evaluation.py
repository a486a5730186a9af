"""What ``featlift train efpn`` ends with: EFPN measured beside the detector that it began as, and what its extension has learned."""

from typing import Any

from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN

from featlift import report
from featlift.commands import compare
from featlift.commands.train import evidence, summary
from featlift.data.fingerprint import fingerprint
from featlift.evaluation.detection import evaluate
from featlift.evaluation.profiling import costs
from featlift.papers import baseline, efpn
from featlift.report.records import RunRecord
from featlift.training import Run
from featlift.training.run import write_json

START = "the same detector before"


def beside_its_start(T: GeneralizedRCNN, settings: efpn.Settings, run: Run) -> dict[str, Any]:
    """Measure T and M on the validation pictures; write ``result.json`` about T and a page about both. Process 0 does it.

    The page has the maps of the paper's Fig. 6: what p3x and p2x should be, beside what they are.
    """
    if run.rank != 0:
        return {}
    shown = baseline.pictures(settings.data, "val")
    M = baseline.load(run.folder / efpn.PLAIN_FILE)[0].to(run.device)
    both = {START: M, "efpn": T}
    before, after = (evaluate(one, shown, settings.data.batch, run.device) for one in both.values())
    cost = costs(both, shown[0][0].to(run.device))
    write_json(run.folder / "detections.json", after.detections)
    found = {"name": "efpn", "metrics": after.metrics, "cost": cost["efpn"], "before": before.metrics}
    result = run.finish(found, fingerprint(shown))
    start = RunRecord(START, before.metrics, cost[START], detections=before.detections)
    runs = [start, report.read_run(run.folder)]
    compared = compare.comparison(runs, shown, 500)
    maps = efpn.maps(T.eval(), shown[0][0].to(run.device))
    page = report.write(run.folder, runs, [compared], evidence(shown), maps, "EFPN beside the detector it began as")
    print(summary("efpn", after))
    print(compare.table(runs, compared))
    print(page)
    return result
