"""``featlift evaluate``: AP and AR of a detector; retrieval metrics of a descriptor generator."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from featlift.data.config import build_dataset, load_data_config
from featlift.data.fingerprint import dataset_fingerprint
from featlift.data.tt100k import TT100KDataset
from featlift.detectors.checkpoint import load_detector
from featlift.detectors.multi_scale import MultiScaleTTA
from featlift.device import resolve_device
from featlift.evaluation import detection
from featlift.experiments import tt100k
from featlift.papers.fdsr import evaluation as super_resolution_detection
from featlift.papers.fsr_gan.evaluation import GENERATOR_FILE, evaluate_retrieval
from featlift.runs.evaluate import format_metrics
from featlift.training.run import write_json


@dataclass(frozen=True)
class InferenceOptions:
    """Batch size, device and test-time augmentation.

    Attributes:
        batch_size: Number of images per batch.
        device: Device: "auto" (a GPU if available), "cpu" or "cuda".
        scales: Factors of the test size; the detections of several scales are merged (multi-scale testing).
        flip: Also detect in the horizontally flipped image.
        merge_method: Method that merges the detections: "nms" or "soft-nms".
    """

    batch_size: int = 4
    device: str = "auto"
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    merge_method: str = "nms"

    @property
    def has_augmentation(self) -> bool:
        """Whether test-time augmentation is used: flipping, or other scales than 1."""
        return self.flip or self.scales != (1.0,)


def evaluate(
    model: str,
    data: str = "",
    split: str = "val",
    out: str = "",
    super_resolvers: dict[str, str] | None = None,
    downscale: int = 4,
    downscale_sweep: tuple[int, ...] = (),
    inference: InferenceOptions = InferenceOptions(),
) -> dict[str, Any]:
    """Evaluate a detector: COCO AP and AR, also of tiny objects (< 16²).

    An FSR-GAN run is evaluated by :func:`featlift.papers.fsr_gan.evaluation.evaluate_retrieval`.

    Args:
        model: Run folder or detector file.
        data: COCO folder, TT100K folder (adds the metrics of TT100K's own protocol) or "scenes"; default: the run's training data.
        split: Split: "val" (TT100K's "test") or "train".
        out: JSON file for metrics and detections (TT100K's accuracy-recall plot is written next to it); default: next to the detector.
        super_resolvers: Super-resolution networks by name, such as ``--super-resolvers.fdsr runs/fdsr``. The detector is evaluated on
            images that are downscaled and then upscaled by each network and by bicubic interpolation, and on the original images (FDSR,
            Sec. 3). ``out`` is then a folder.
        downscale: Factor by which image sides are reduced for ``super_resolvers``.
        downscale_sweep: Further factors for a plot of AP against the factor (``robustness.png``); each adds one evaluation.
        inference: Batch size, device and test-time augmentation.

    Raises:
        ValueError: If the classes of the dataset differ from the detector's.
    """
    inference = replace(inference, device=str(resolve_device(inference.device)))
    if (Path(model) / GENERATOR_FILE).exists():
        return evaluate_retrieval(Path(model), data, Path(out) if out else None)
    if super_resolvers:
        return _evaluate_super_resolved(
            super_resolution_detection.SRDetectionConfig(
                model,
                super_resolvers,
                "",
                data,
                split,
                downscale,
                downscale_sweep=downscale_sweep,
                device=inference.device,
            ),
            Path(out or f"{model}/super_resolved"),
        )
    detector, classes = load_detector(model)
    dataset = build_dataset(load_data_config(model, data), split)
    if list(dataset.classes) != classes:
        raise ValueError(
            f"The detector has the classes {', '.join(classes)}; the dataset has {', '.join(dataset.classes)}."
        )
    predictor = (
        MultiScaleTTA(detector, inference.scales, inference.flip, inference.merge_method)
        if inference.has_augmentation
        else detector
    )
    evaluation = detection.evaluate_detector(predictor, dataset, inference.batch_size, inference.device)
    folder = Path(model) if Path(model).is_dir() else Path(model).parent
    suffix = "-multi-scale" if inference.has_augmentation else ""
    path = Path(out) if out else folder / f"evaluation-{Path(data or 'own').name}-{split}{suffix}.json"
    results = {
        "data": dataset_fingerprint(dataset),
        "metrics": evaluation.metrics,
        "detections": evaluation.detections,
    }
    print(format_metrics(Path(model).name, evaluation))
    if isinstance(dataset, TT100KDataset):
        results["tt100k"] = tt100k.evaluate_tt100k(
            predictor, dataset, evaluation, inference.batch_size, inference.device
        )
        print(tt100k.format_tt100k(results["tt100k"]))
        plot_file = path.with_name(f"{path.stem}-accuracy-recall.png")
        print(tt100k.plot_accuracy_recall(results["tt100k"], plot_file))
    write_json(path, results)
    print(path)
    return results["metrics"]


def _evaluate_super_resolved(config: super_resolution_detection.SRDetectionConfig, folder: Path) -> dict[str, Any]:
    results = super_resolution_detection.evaluate_sr_detection(config, folder)
    print(super_resolution_detection.format_sr_detection(results["pipelines"]))
    print(folder)
    return results
