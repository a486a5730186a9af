"""Options of a training run, and its folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featlift.checkpoints.json_io import to_jsonable
from featlift.detectors.fixed_size import parse_image_size
from featlift.training import Run


@dataclass(frozen=True)
class InferenceOptions:
    """Batch size, device, test-time augmentation, classes and weights of an evaluation.

    Attributes:
        batch_size: Number of images per batch.
        device: Device: "auto" (a GPU if available), "cpu" or "cuda".
        scales: Factors of the test size; the detections of several scales are merged (multi-scale testing).
        flip: Also detect in the horizontally flipped image.
        merge_method: Method that merges the detections: "nms" or "soft-nms".
        max_detections: Maximum number of detections per image, for the detector and for AP; None for the detector's own (100 for COCO's
            numbers, 300 in presets for small objects).
        image_size: Size to which images are resized before the detector, without keeping their aspect ratio, as "300x300" (HEIGHTxWIDTH) of
            PASCAL VOC's SSD300; empty keeps it. Detections are in pixels of the images.
        class_map: Detector's class → dataset's class, for names that differ: ``--class-map.human person``. The detector's other
            classes that are not in the dataset are then not evaluated.
        slice_size: Side in pixels of overlapping slices of the image in which the detector also runs (sliced inference, SAHI); 0 for
            none.
        slice_overlap: Fraction of a slice shared with the next; the largest object of interest should fit into it.
        slice_scale: Factor of the test size for slices, or of their own size if the detector has no test size.
        level: Map on which a Faster or Mask R-CNN detects alone, such as "p3"; EFPN also has "p3x" and "p2x" (EFPN, Table V).
        double_size_level: RoIs below this size, in pixels of the resized image, are pooled from p2 of the image at twice the size (EFPN,
            Table III: 56 on TT100K, 112 on COCO); 0 for none.
        weights: Weights of a detector of another library: "none" (random, unless it is a file or folder), "DEFAULT" (downloaded) or a file.
        delta: Delta file of `featlift upgrade` or `featlift add-level` that is loaded onto the detector.
    """

    batch_size: int = 4
    device: str = "auto"
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    merge_method: str = "nms"
    max_detections: int | None = None
    image_size: str = ""
    class_map: dict[str, str] | None = None
    slice_size: int = 0
    slice_overlap: float = 0.2
    slice_scale: float = 1.0
    level: str = ""
    double_size_level: float = 0.0
    weights: str = "none"
    delta: str = ""

    def check_combination(self) -> None:
        """Check that no options are given that exclude each other, and that ``image_size`` is a size.

        Raises:
            ValueError: If not; names them.
        """
        chosen = {
            "--scales or --flip": self.has_augmentation,
            "--slice-size": bool(self.slice_size),
            "--double-size-level": bool(self.double_size_level),
        }
        names = [name for name, is_chosen in chosen.items() if is_chosen]
        if self.level and self.double_size_level:
            names = ["--level", "--double-size-level"]
        if len(names) > 1:
            raise ValueError(f"{' and '.join(names)} cannot be combined; choose one.")
        if self.image_size:
            parse_image_size(self.image_size)

    @property
    def has_augmentation(self) -> bool:
        """Whether test-time augmentation is used: flipping, or other scales than 1."""
        return self.flip or self.scales != (1.0,)

    @property
    def variant(self) -> str:
        """Name of the kind of inference in names of files: "multi-scale", "slices", "p3", "300x300", …; empty for the detector as it is."""
        kinds = {
            self.level: bool(self.level),
            "double-size-level": bool(self.double_size_level),
            "slices": bool(self.slice_size),
            "multi-scale": self.has_augmentation,
            self.image_size: bool(self.image_size),
        }
        return "-".join(name for name, is_used in kinds.items() if is_used)


@dataclass(frozen=True)
class RunOptions:
    """Run folder, device, precision and logging of a training run.

    Attributes:
        run: Run folder; training resumes if the folder contains an unfinished run.
        stop_after: Last stage to run: "teacher", "interpolator", "extractor" (afi-gan, srf-gan) or "target".
        seed: Random seed.
        device: Device: "auto" (a GPU if available), "cpu" or "cuda".
        precision: "fp32", or autocast to "bf16" or "fp16".
        save_every: Steps between checkpoints.
        log_every: Steps between log lines.
        evaluate_every: Steps between evaluations of the detector in its last stage (baseline, afi-gan, srf-gan); the weights of the highest
            AP are kept as ``best_detector.safetensors``. 0 evaluates at the end only.
        tracker: Also log to an experiment tracker: "none", "tensorboard", "wandb" (Weights & Biases) or "mlflow".
    """

    run: Path = Path("runs/train")
    stop_after: str = "target"
    seed: int = 0
    device: str = "auto"
    precision: str = "fp32"
    save_every: int = 500
    log_every: int = 20
    evaluate_every: int = 0
    tracker: str = "none"

    def __post_init__(self) -> None:
        if self.evaluate_every < 0:
            raise ValueError(f"--evaluate-every is {self.evaluate_every}; give a number of steps, or 0.")


def open_run(paper: str, settings: Any, options: RunOptions) -> Run:
    """Open the run folder of a training of ``paper`` ("afi-gan", …), new or resumed; its ``settings.json`` names the paper."""
    run = Run(
        options.run,
        {"paper": paper, **to_jsonable(settings)},
        options.seed,
        options.device,
        options.precision,
        options.save_every,
        options.log_every,
        options.tracker,
    )
    run.evaluate_every = options.evaluate_every
    return run
