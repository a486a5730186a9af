"""What TT100K's own tool says of a detector (Zhu et al., CVPR 2016; EFPN, Sec. IV-A): part of ``featlift evaluate``."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from featlift.data.tt100k import TT100KDataset
from featlift.evaluation import detection, tt100k
from featlift.evaluation.average_precision import coco_metrics_at_iou50
from featlift.evaluation.detection import EvaluationResult


def evaluate_tt100k(
    detector: nn.Module, dataset: TT100KDataset, evaluation: EvaluationResult, batch_size: int = 4, device: str = "cpu"
) -> dict[str, Any]:
    """Accuracy, recall and F1 by size over the 45 classes, AP and AR at IoU 0.5, the limit they are counted at, curves of sizes with signs.

    The limit is that of the best F1 on the held-out training pictures, which ``detector`` looks at for it, and never on those in ``evaluation``.
    """
    held = TT100KDataset(dataset.folder, "held-out", dataset.release)
    seen = detection.detect_dataset(detector, held, None, batch_size, device)
    limit = tt100k.best_accuracy_recall_threshold(tt100k.accuracy_recall_curve(held.coco(), seen.detections)["all"])
    truth = dataset.coco()
    counts = {
        size: tt100k.count_tt100k_matches(truth, evaluation.detections, limit, sides)
        for size, sides in tt100k.TT100K_SIZE_RANGES.items()
    }
    rows = {size: {"accuracy": c.accuracy, "recall": c.recall, "f1": c.f1} for size, c in counts.items()}
    curves = {
        size: [{"limit": at, "accuracy": count.accuracy, "recall": count.recall} for at, count in points]
        for size, points in tt100k.accuracy_recall_curve(truth, evaluation.detections).items()
        if counts[size].num_objects
    }
    return {
        "limit": limit,
        "sizes": rows,
        "at_half": coco_metrics_at_iou50(*tt100k.filter_classes(truth, evaluation.detections)),
        "curves": curves,
    }


def plot_accuracy_recall(results: Mapping[str, Any], path: Path) -> Path:
    """Accuracy against recall over all score limits, a line for each size, with a dot at the limit that was chosen; a picture file."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 4.4), layout="constrained")
    axes = figure.add_subplot()
    for size, points in results["curves"].items():
        (line,) = axes.plot(*_recall_accuracy_percent(points), label=size)
        chosen = results["sizes"][size]
        axes.plot(100 * chosen["recall"], 100 * chosen["accuracy"], "o", color=line.get_color())
    axes.set(xlabel="recall, per cent", ylabel="accuracy, per cent", xlim=(0, 101), ylim=(0, 101))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, title=f"signs; dots: scores from {results['limit']:.2f}")
    figure.savefig(path, dpi=120)
    return path


def _recall_accuracy_percent(points: Sequence[Mapping[str, float]]) -> tuple[list[float], list[float]]:
    return [100 * point["recall"] for point in points], [100 * point["accuracy"] for point in points]


def format_tt100k(results: dict[str, Any]) -> str:
    """:func:`evaluate_tt100k` as lines of text, in per cent."""
    lines = [f"TT100K, 45 classes, scores from {results['limit']:.2f} (chosen on held-out training pictures):"]
    for size, row in results["sizes"].items():
        numbers = "  ".join(f"{name} {100 * value:.1f}" for name, value in row.items())
        lines.append(f"  {size:<7}{numbers if size in results['curves'] else 'no signs'}")
    known = {name: value for name, value in results["at_half"].items() if value is not None}
    return "\n".join([*lines, "  IoU 0.5 " + "  ".join(f"{name} {100 * value:.1f}" for name, value in known.items())])
