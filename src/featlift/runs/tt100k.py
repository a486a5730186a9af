"""Evaluation of a detector by TT100K's protocol (Zhu et al., CVPR 2016; EFPN, Sec. IV-A): part of ``featlift evaluate``."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from featlift.data.tt100k import TT100KDataset
from featlift.evaluation import detection, tt100k
from featlift.evaluation.coco_metrics import coco_metrics_at_iou50
from featlift.evaluation.detection import EvaluationResult
from featlift.report.figure import save_figure


def evaluate_tt100k(
    detector: nn.Module, dataset: TT100KDataset, evaluation: EvaluationResult, batch_size: int = 4, device: str = "cpu"
) -> dict[str, Any]:
    """Compute accuracy, recall and F1 by size over the 45 classes, AP and AR at IoU 0.5, and accuracy-recall curves.

    The score threshold is that of the best F1 on the held-out training images, on which ``detector`` is run; it is never chosen on the
    images of ``evaluation``.

    Args:
        detector: Detector with torchvision's interface.
        dataset: Dataset of ``evaluation``.
        evaluation: Detections on ``dataset``.
        batch_size: Images per batch on the held-out images.
        device: Device of the detector.

    Returns:
        ``score_threshold``, ``sizes`` (size → metrics), ``coco_iou50`` and ``curves`` (size → list of points; sizes with signs only).
    """
    held_out = TT100KDataset(dataset.folder, "held-out", dataset.release)
    held_out_detections = detection.detect_dataset(detector, held_out, None, batch_size, device).detections
    curve = tt100k.accuracy_recall_curve(held_out.coco(), held_out_detections)["all"]
    score_threshold = tt100k.best_accuracy_recall_threshold(curve)
    truth = dataset.coco()
    counts = {
        size: tt100k.count_tt100k_matches(truth, evaluation.detections, score_threshold, size_range)
        for size, size_range in tt100k.TT100K_SIZE_RANGES.items()
    }
    metrics = {size: {"accuracy": c.accuracy, "recall": c.recall, "f1": c.f1} for size, c in counts.items()}
    curves = {
        size: [{"score_threshold": t, "accuracy": c.accuracy, "recall": c.recall} for t, c in points]
        for size, points in tt100k.accuracy_recall_curve(truth, evaluation.detections).items()
        if counts[size].num_objects
    }
    return {
        "score_threshold": score_threshold,
        "sizes": metrics,
        "coco_iou50": coco_metrics_at_iou50(*tt100k.filter_classes(truth, evaluation.detections)),
        "curves": curves,
    }


def plot_accuracy_recall(results: Mapping[str, Any], path: Path) -> Path:
    """Plot accuracy against recall over all score thresholds, one line per size, with a dot at the chosen threshold; return ``path``."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 4.4), layout="constrained")
    axes = figure.add_subplot()
    for size, points in results["curves"].items():
        (line,) = axes.plot(*_recall_accuracy_percent(points), label=size)
        point = results["sizes"][size]
        axes.plot(100 * point["recall"], 100 * point["accuracy"], "o", color=line.get_color())
    axes.set(xlabel="recall, %", ylabel="accuracy, %", xlim=(0, 101), ylim=(0, 101))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, title=f"signs; dots: score ≥ {results['score_threshold']:.2f}")
    return save_figure(figure, path)


def _recall_accuracy_percent(points: Sequence[Mapping[str, float]]) -> tuple[list[float], list[float]]:
    return [100 * point["recall"] for point in points], [100 * point["accuracy"] for point in points]


def format_tt100k(results: dict[str, Any]) -> str:
    """Format the results of :func:`evaluate_tt100k` as lines of text, in percent."""
    lines = [f"TT100K, 45 classes, score ≥ {results['score_threshold']:.2f} (chosen on held-out training images):"]
    for size, row in results["sizes"].items():
        numbers = "  ".join(f"{name} {100 * value:.1f}" for name, value in row.items())
        lines.append(f"  {size:<7}{numbers if size in results['curves'] else 'no signs'}")
    coco = {name: value for name, value in results["coco_iou50"].items() if value is not None}
    return "\n".join([*lines, "  IoU 0.5 " + "  ".join(f"{name} {100 * value:.1f}" for name, value in coco.items())])
