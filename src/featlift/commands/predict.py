"""``featlift predict``: detect objects in images; write annotated images and COCO JSON."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from featlift.data.image_io import read_image
from featlift.detectors.checkpoint import load_detector
from featlift.device import resolve_device
from featlift.evaluation.detection import to_coco_results
from featlift.training.run import write_json

_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm")


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
        out: Output folder for the annotated images and ``predictions.json``.
        score_threshold: Minimum score of drawn detections; the JSON file contains all.
        device: Device: "auto" (a GPU if available), "cpu" or "cuda".
        skip_broken: Skip unreadable images and list them in the JSON file.

    Raises:
        FileNotFoundError: If a source does not exist or contains no image.
        ValueError: If an image is unreadable and ``skip_broken`` is False.
    """
    detector, classes = load_detector(model)
    resolved = resolve_device(device)
    detector.to(resolved).eval()
    files = find_images(sources)
    results: list[dict[str, Any]] = []
    images, broken = [], []
    Path(out).mkdir(parents=True, exist_ok=True)
    for number, file in enumerate(_with_progress(files), 1):
        try:
            image = read_image(file)
        except ValueError as error:
            if not skip_broken:
                raise ValueError(f"{error} (--skip-broken skips unreadable images)") from error
            broken.append({"file": str(file), "reason": str(error)})
            continue
        detections = _detect(detector, image.to(resolved))
        images.append({"id": number, "file_name": str(file), "height": image.shape[1], "width": image.shape[2]})
        results += to_coco_results([detections], [number])
        draw_predictions(image, detections, classes, score_threshold, Path(out) / f"{number:05d}_{file.stem}.png")
    categories = [{"id": i, "name": name} for i, name in enumerate(classes, 1)]
    content = {"images": images, "categories": categories, "annotations": results, "skipped": broken}
    write_json(Path(out) / "predictions.json", content)
    print(f"{len(images)} images, {len(results)} detections, {len(broken)} skipped: {out}")
    return Path(out)


def find_images(paths: list[str]) -> list[Path]:
    """Return the files among ``paths`` and all image files below the folders among them, in order.

    Raises:
        FileNotFoundError: If a path does not exist or contains no image.
    """
    images: list[Path] = []
    for path in map(Path, paths):
        if not path.exists():
            raise FileNotFoundError(f"'{path}' does not exist.")
        files = sorted(p for p in path.rglob("*") if p.suffix.lower() in _IMAGE_SUFFIXES) if path.is_dir() else [path]
        if not files:
            raise FileNotFoundError(f"'{path}' contains no image ({', '.join(_IMAGE_SUFFIXES)}).")
        images += files
    return images


@torch.inference_mode()
def _detect(detector: nn.Module, image: Tensor) -> dict[str, Tensor]:
    return {name: value.cpu() for name, value in detector([image])[0].items()}


def draw_predictions(
    image: Tensor, detections: dict[str, Tensor], classes: list[str], score_threshold: float, path: Path
) -> None:
    """Write ``image [3, H, W]`` with the boxes and masks of the ``detections`` with at least ``score_threshold``."""
    from torchvision.transforms.functional import to_pil_image
    from torchvision.utils import draw_bounding_boxes, draw_segmentation_masks

    keep = detections["scores"] >= score_threshold
    canvas = (image * 255).round().clamp(0, 255).byte()
    labels = [
        f"{classes[label - 1]} {score:.2f}"
        for label, score in zip(detections["labels"][keep].tolist(), detections["scores"][keep].tolist(), strict=True)
    ]
    if "masks" in detections and keep.any():
        canvas = draw_segmentation_masks(canvas, detections["masks"][keep][:, 0] > 0.5, alpha=0.4, colors="#e6194b")
    if labels:
        canvas = draw_bounding_boxes(canvas, detections["boxes"][keep], labels, colors="#e6194b", width=2)
    to_pil_image(canvas).save(path)


def _with_progress(files: list[Path]) -> Iterator[Path]:
    from rich.progress import track

    yield from track(files, description="predicting")
