"""``featlift predict``: detect objects in images; write annotated images and COCO JSON."""

from pathlib import Path

from featlift.deployment.prediction import find_images, predict_images
from featlift.detectors.checkpoint import load_detector, read_category_ids
from featlift.device import resolve_device


def predict(
    model: str,
    sources: list[str],
    out: str = "predictions",
    score_threshold: float = 0.5,
    device: str = "auto",
    skip_broken: bool = False,
) -> Path:
    """Detect objects in images.

    Args:
        model: Run folder or detector file.
        sources: Image files and folders (searched recursively).
        out: Output folder for the annotated images, ``predictions.json`` (a COCO file) and ``results.json`` (COCO results).
        score_threshold: Minimum score of drawn detections; the JSON file contains all.
        device: Device: "auto" (a GPU if available), "cpu" or "cuda".
        skip_broken: Skip unreadable images and list them in the JSON file.

    Raises:
        FileNotFoundError: If a source does not exist or contains no image.
        ValueError: If an image is unreadable and ``skip_broken`` is False, or the score threshold is outside 0…1.
    """
    if not 0 <= score_threshold <= 1:
        raise ValueError(f"--score-threshold is {score_threshold:g}; scores are between 0 and 1.")
    detector, classes = load_detector(model)
    detector.to(resolve_device(device))
    content = predict_images(
        detector, classes, find_images(sources), Path(out), score_threshold, skip_broken, read_category_ids(model)
    )
    counts = f"{len(content['images'])} images, {len(content['annotations'])} detections"
    print(f"{counts}, {len(content['skipped'])} skipped: {out}")
    return Path(out)
