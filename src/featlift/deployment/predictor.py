"""`Predictor`: a detector for images of any kind in Python, and its `Prediction`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from featlift.data.image_io import MAX_PIXELS, ImageReadError
from featlift.deployment.drawing import draw_detections
from featlift.deployment.image_sources import ImageSource, Source, VideoSource, find_sources
from featlift.device import device_of, resolve_device
from featlift.evaluation.coco_metrics import Detection
from featlift.evaluation.detection import to_coco_results
from featlift.integrations.named_detector import NamedDetector, load_named_detector


@dataclass
class Prediction:
    """Detections in an image.

    Attributes:
        name: Path or URL of the image, with ``#frame=N`` of a video.
        image: Image ``[3, H, W]``, float32 in 0…1.
        boxes: Boxes ``[N, 4]`` xyxy in pixels, best first.
        labels: Labels ``[N]`` in 1…K.
        scores: Scores ``[N]``.
        classes: Class names; label k is ``classes[k - 1]``.
        category_ids: Ids of the classes in COCO results.
        masks: Masks ``[N, H, W]`` of bool, if the detector predicts masks.
        error: Why the image could not be read; then it has no detections.
    """

    name: str
    image: Tensor
    boxes: Tensor
    labels: Tensor
    scores: Tensor
    classes: Sequence[str]
    category_ids: Sequence[int]
    masks: Tensor | None = None
    error: str = ""

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def class_names(self) -> list[str]:
        """Name of the class of each detection."""
        labels: list[int] = self.labels.tolist()
        return [self.classes[label - 1] for label in labels]

    def above(self, threshold: float) -> "Prediction":
        """The detections with at least this score."""
        keep = self.scores >= threshold
        masks = None if self.masks is None else self.masks[keep]
        parts = (self.boxes[keep], self.labels[keep], self.scores[keep])
        return Prediction(self.name, self.image, *parts, self.classes, self.category_ids, masks, self.error)

    def draw(self) -> Tensor:
        """Image ``[3, H, W]`` uint8 with the boxes, masks, names and scores of all detections."""
        texts = [f"{name} {score:.2f}" for name, score in zip(self.class_names, self.scores.tolist(), strict=True)]
        return draw_detections(self.image, self.boxes, texts, self.labels, self.masks)

    def to_coco(self, image_id: int) -> list[Detection]:
        """Detections as COCO results of the image ``image_id``."""
        prediction = {"boxes": self.boxes, "labels": self.labels, "scores": self.scores}
        if self.masks is not None:
            prediction["masks"] = self.masks.float()
        return to_coco_results([prediction], [image_id], dict(enumerate(self.category_ids, start=1)))

    def to_supervision(self) -> Any:
        """Detections as ``supervision.Detections``, with ``class_name`` in ``data``; class ids count from 0.

        Raises:
            ImportError: naming the extra to install.
        """
        try:
            import supervision
        except ImportError as error:
            raise ImportError("supervision is missing; pip install 'featlift[formats]'.") from error
        import numpy as np

        return supervision.Detections(
            xyxy=self.boxes.numpy().reshape(-1, 4),
            mask=None if self.masks is None else self.masks.numpy(),
            confidence=self.scores.numpy(),
            class_id=(self.labels - 1).numpy().astype(int),
            data={"class_name": np.array(self.class_names, dtype=str)},
        )

    def to_yolo(self, with_scores: bool = False) -> str:
        """Lines ``class cx cy w h`` of a YOLO label file, in fractions of the image; classes count from 0."""
        height, width = self.image.shape[1:]
        centers, sides = (self.boxes[:, :2] + self.boxes[:, 2:]) / 2, self.boxes[:, 2:] - self.boxes[:, :2]
        values = torch.cat([centers, sides], dim=1) / torch.tensor([width, height, width, height])
        lines = []
        for label, row, score in zip(self.labels.tolist(), values.tolist(), self.scores.tolist(), strict=True):
            words = [str(label - 1), *(f"{value:.6g}" for value in row), *([f"{score:.6g}"] if with_scores else [])]
            lines.append(" ".join(words) + "\n")
        return "".join(lines)


@dataclass
class Predictor:
    """A trained detector for images of any kind.

    Attributes:
        model: Run folder, detector file or name, as `load_named_detector` takes it ("ultralytics:yolo11n.pt"); its result; or a detector
            with torchvision's interface (then give ``classes``).
        score_threshold: Minimum score of the detections.
        device: Device: "auto" (a GPU if available), "cpu" or "cuda".
        classes: Class names; default: those of the detector file.
        detector: The loaded detector.
    """

    model: str | Path | nn.Module | NamedDetector
    score_threshold: float = 0.0
    device: str = "auto"
    classes: Sequence[str] = ()
    category_ids: list[int] = field(init=False)
    detector: nn.Module = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Load the detector and move it to the device."""
        if isinstance(self.model, nn.Module):
            self.detector, names = self.model, list(self.classes)
            self.category_ids = list(range(1, len(names) + 1))
        else:
            loaded = self.model if isinstance(self.model, NamedDetector) else load_named_detector(self.model)
            self.detector, names, self.category_ids = loaded.detector, loaded.classes, loaded.category_ids
        self.classes = list(self.classes) or names
        if not self.classes:
            raise ValueError("Give the names of the classes; label k is classes[k - 1].")
        self.detector.to(resolve_device(self.device)).eval()

    def __call__(self, sources: Any) -> Any:
        """Detect objects in an image, or in a list of images: paths, URLs, PIL images, RGB arrays ``[H, W, 3]`` of uint8, or tensors
        ``[3, H, W]`` in 0…1. Returns a `Prediction`, or a list of them for a list, a folder or a pattern.

        Raises:
            ImageReadError: If an image cannot be read.
            FileNotFoundError: If a path does not exist.
        """
        found = find_sources(sources)
        if any(isinstance(source, VideoSource) for source in found):
            raise ValueError("Videos have many frames: use predictor.stream(source).")
        predictions = [self._predict(source.name, source.read()) for source in found]  # type: ignore[union-attr]
        is_one = (
            len(predictions) == 1 and not isinstance(sources, (list, tuple)) and not Path(str(sources)[:200]).is_dir()
        )
        return predictions[0] if is_one else predictions

    def stream(
        self, sources: Any, frame_step: int = 1, skip_broken: bool = False, max_pixels: int = MAX_PIXELS
    ) -> Iterator[Prediction]:
        """Detect objects in all images of at most ``max_pixels`` pixels and all frames of ``sources``, one at a time; see `find_sources`.

        With ``skip_broken`` an unreadable image gives a prediction with ``error`` and without detections, instead of an ImageReadError.
        """
        for source in sources if _are_sources(sources) else find_sources(sources):
            if isinstance(source, VideoSource):
                for number, frame in source.frames(frame_step):
                    yield self._predict(f"{source.name}#frame={number}", frame)
            else:
                yield self._predict_or_error(source, skip_broken, max_pixels)

    def _predict_or_error(self, source: ImageSource, skip_broken: bool, max_pixels: int) -> Prediction:
        try:
            image = source.read(max_pixels)
        except ImageReadError as error:
            if not skip_broken:
                raise ImageReadError(f"{error} (--skip-broken skips unreadable images)") from error
            empty = torch.zeros(0)
            parts = (torch.zeros(3, 0, 0), empty.reshape(0, 4), empty.long(), empty)
            return Prediction(source.name, *parts, self.classes, self.category_ids, error=str(error))
        return self._predict(source.name, image)

    @torch.inference_mode()
    def _predict(self, name: str, image: Tensor) -> Prediction:
        found = {key: value.cpu() for key, value in self.detector([image.to(device_of(self.detector))])[0].items()}
        masks = found["masks"].reshape(-1, *image.shape[1:]) > 0.5 if "masks" in found else None
        parts = (found["boxes"], found["labels"], found["scores"])
        return Prediction(name, image, *parts, self.classes, self.category_ids, masks).above(self.score_threshold)


def _are_sources(sources: Any) -> bool:
    return isinstance(sources, list) and all(isinstance(source, Source) for source in sources)
