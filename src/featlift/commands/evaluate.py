"""``featlift evaluate``: AP and AR of a detector on pictures; of a descriptor generator, what is found."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featlift.commands.train import format_metrics
from featlift.data.fingerprint import dataset_fingerprint
from featlift.data.tt100k import TT100KDataset
from featlift.detectors.multi_scale import MultiScaleTTA
from featlift.evaluation import detection
from featlift.experiments import super_resolution_detection, tt100k_evaluation
from featlift.experiments.retrieval_evaluation import GENERATOR_FILE, evaluate_retrieval
from featlift.papers import baseline
from featlift.training.run import write_json


@dataclass(frozen=True)
class InferenceOptions:
    """How a detector looks at the pictures.

    Attributes:
        batch_size: pictures at a time.
        device: "cpu", "cuda", ….
        scales: factors of the test size at which each picture is looked at; several are merged (multi-scale test).
        flip: look at the mirrored picture, too.
        merge_method: of what several looks found: "nms" or "soft-nms".
    """

    batch_size: int = 4
    device: str = "cpu"
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    merge_method: str = "nms"

    @property
    def has_augmentation(self) -> bool:
        """Whether it looks more than once, or at another size."""
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
    """COCO AP and AR, also for tiny objects (< 16²), of a run's detector; of a run of FSR-GAN, :func:`featlift.experiments.retrieval_evaluation.evaluate_retrieval`.

    Args:
        model: a run folder or a detector file.
        data: a COCO folder, TT100K's folder (then its own tool's numbers are told, too), or "scenes"; empty takes what the run was
            trained on.
        split: "val" (TT100K's "test") or "train".
        out: where to write metrics and detections (json; of TT100K accuracy-recall curves beside it); by default beside the detector.
        super_resolvers: super-resolution networks by name, ``--through.fdsr runs/fdsr``: pictures are shrunk, enlarged by each, by bicubic
            interpolation and not at all, and shown to the detector (FDSR, Sec. 3). ``out`` is then a folder.
        downscale: how much smaller a side becomes for ``super_resolvers``.
        downscale_sweep: further ones, for a picture of AP against them (``robustness.png``); each costs as much as the first.
        inference: batch, device and multi-scale test.
    """
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
            Path(out or f"{model}/through"),
        )
    detector, classes = baseline.load_detector(model)
    shown = baseline.build_dataset(baseline.load_data_config(model, data), split)
    if list(shown.classes) != classes:
        raise ValueError(f"The detector knows {', '.join(classes)}; these pictures have {', '.join(shown.classes)}.")
    seeing = (
        MultiScaleTTA(detector, inference.scales, inference.flip, inference.merge_method)
        if inference.has_augmentation
        else detector
    )
    measured = detection.evaluate_detector(seeing, shown, inference.batch_size, inference.device)
    folder = Path(model) if Path(model).is_dir() else Path(model).parent
    ending = "-multi-scale" if inference.has_augmentation else ""
    path = Path(out) if out else folder / f"evaluation-{Path(data or 'own').name}-{split}{ending}.json"
    found = {"data": dataset_fingerprint(shown), "metrics": measured.metrics, "detections": measured.detections}
    print(format_metrics(Path(model).name, measured))
    if isinstance(shown, TT100KDataset):
        found["signs"] = tt100k_evaluation.evaluate_tt100k(
            seeing, shown, measured, inference.batch_size, inference.device
        )
        print(tt100k_evaluation.format_tt100k(found["signs"]))
        print(
            tt100k_evaluation.plot_accuracy_recall(found["signs"], path.with_name(f"{path.stem}-accuracy-recall.png"))
        )
    write_json(path, found)
    print(path)
    return found["metrics"]


def _evaluate_super_resolved(config: super_resolution_detection.SRDetectionConfig, folder: Path) -> dict[str, Any]:
    found = super_resolution_detection.evaluate_sr_detection(config, folder)
    print(super_resolution_detection.format_sr_detection(found["rows"]))
    print(folder)
    return found
