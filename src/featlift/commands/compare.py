"""``featlift compare``: compare two runs on the same images."""

from pathlib import Path

from featlift import report
from featlift.runs.comparison import (
    compare_runs,
    disambiguate_names,
    extract_feature_maps,
    format_comparison,
    load_common_dataset,
)
from featlift.runs.evaluate import build_report_dataset
from featlift.runs.fiftyone_dataset import write_fiftyone_dataset


def compare(first: str, second: str, out: str = "", n_resamples: int = 1000, save_fiftyone: bool = False) -> Path:
    """Write ``report.html`` with the objects gained and lost by the second run, AP differences with intervals, and example images.

    Args:
        first: Run folder of the reference.
        second: Run folder that is compared with the reference.
        out: Output folder of ``report.html``; default: the second run's folder.
        n_resamples: Number of bootstrap resamples of images for the confidence intervals.
        save_fiftyone: Also write the folder ``fiftyone`` next to the report, a dataset for FiftyOne: every object and every detection has
            the attribute ``outcome`` (gained, lost, …).
    """
    folders = (Path(first), Path(second))
    dataset = load_common_dataset(folders)
    runs = [report.read_run(folder) for folder in folders]
    disambiguate_names(runs, folders)
    comparison = compare_runs(runs, dataset, n_resamples)
    maps = extract_feature_maps(runs, folders, dataset)
    page = report.write_report(out or folders[1], runs, [comparison], build_report_dataset(dataset), maps)
    print(format_comparison(runs, comparison))
    print(page)
    if save_fiftyone:
        detections = (runs[0].detections, runs[1].detections)
        print(write_fiftyone_dataset(page.parent / "fiftyone", dataset, comparison.object_changes, detections))
    return page
