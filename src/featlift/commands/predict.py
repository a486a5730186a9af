"""``featlift predict``: detect objects in images and videos; write annotated images, COCO JSON and YOLO labels."""

from pathlib import Path

from featlift.deployment.image_sources import find_sources
from featlift.deployment.prediction import PredictionOptions, predict_sources
from featlift.deployment.predictor import Predictor

DEFAULT_OPTIONS = PredictionOptions()


def predict(
    model: str,
    sources: list[str],
    out: str = "predictions",
    device: str = "auto",
    options: PredictionOptions = DEFAULT_OPTIONS,
) -> Path:
    """Detect objects in images and videos.

    Args:
        model: Run folder or detector file.
        sources: Image and video files, folders (searched recursively), patterns ("images/*.jpg"), http(s) URLs, streams (rtsp://…), or
            the index of a camera (0).
        out: Output folder for the annotated images and videos, ``predictions.json`` (a COCO file), ``results.json`` (COCO results) and
            YOLO's ``labels``. Files of an earlier prediction in it are replaced.
        device: Device: "auto" (a GPU if available), "cpu" or "cuda".
        options: Score threshold, and what is written.

    Raises:
        FileNotFoundError: If a source does not exist or contains no image.
        ValueError: If an image is unreadable and ``skip_broken`` is False, or ``out`` is a folder of the images.
    """
    found = find_sources(list(sources))
    counts = predict_sources(Predictor(model, device=device), found, Path(out), options)
    print(f"{counts}: {out}".encode("utf-8", "backslashreplace").decode())
    return Path(out)
