"""``featlift predict``: detect objects in images and videos; write annotated images, COCO JSON and YOLO labels."""

from pathlib import Path

from featlift.deployment.image_sources import find_sources
from featlift.deployment.prediction import PredictionOptions, predict_sources
from featlift.deployment.predictor import Predictor
from featlift.integrations.named_detector import load_named_detector
from featlift.runs.upgrade_training import warn_about_random_weights

DEFAULT_OPTIONS = PredictionOptions()


def predict(
    model: str,
    sources: list[str],
    out: str = "predictions",
    device: str = "auto",
    weights: str = "none",
    delta: str = "",
    options: PredictionOptions = DEFAULT_OPTIONS,
) -> Path:
    """Detect objects in images and videos.

    Args:
        model: Run folder or detector file; or a detector of another library: NAME of torchvision, ultralytics:yolo11n.pt,
            hf:FOLDER_OR_ID, yolox:FILE, or FILE.py:FUNCTION.
        sources: Image and video files, folders (searched recursively), patterns ("images/*.jpg"), http(s) URLs, streams (rtsp://…), or
            the index of a camera (0).
        out: Output folder for the annotated images and videos, ``predictions.json`` (a COCO file), ``results.json`` (COCO results) and
            YOLO's ``labels``. Files of an earlier prediction in it are replaced.
        device: Device: "auto" (a GPU if available), "cpu" or "cuda".
        weights: Weights of a detector of another library: "none" (random, unless it is a file or folder), "DEFAULT" (downloaded) or a file.
        delta: Delta file of `featlift upgrade` or `featlift add-level` that is loaded onto the detector.
        options: Score threshold, and what is written.

    Raises:
        FileNotFoundError: If a source does not exist or contains no image.
        ValueError: If an image is unreadable and ``skip_broken`` is False, or ``out`` is a folder of the images.
    """
    found = find_sources(list(sources))
    predictor = Predictor(load_named_detector(model, weights, delta), device=device)
    warn_about_random_weights(model, weights)
    counts = predict_sources(predictor, found, Path(out), options)
    print(f"{counts}: {out}".encode("utf-8", "backslashreplace").decode())
    return Path(out)
