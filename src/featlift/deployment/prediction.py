"""Detect objects in image files; write annotated images and COCO JSON."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from featlift.data.dataset import coco_categories
from featlift.data.image_io import list_images, read_image
from featlift.device import device_of
from featlift.evaluation.coco_files import to_annotations, write_coco_file, write_coco_results
from featlift.evaluation.detection import to_coco_results
from featlift.training.progress import track


def predict_images(
    detector: nn.Module,
    classes: Sequence[str],
    files: Sequence[Path],
    out: Path,
    score_threshold: float = 0.5,
    skip_broken: bool = False,
    category_ids: Sequence[int] | None = None,
) -> dict[str, Any]:
    """Detect objects in ``files``; write annotated images and detections into ``out``, and return the content of ``predictions.json``.

    ``predictions.json`` is a full COCO file with images and categories, ``results.json`` the list of COCO results.

    Args:
        detector: Detector with torchvision's interface.
        classes: Names of the classes; label k is ``classes[k - 1]``.
        files: Image files.
        out: Output folder.
        score_threshold: Minimum score of drawn detections; the JSON file contains all.
        skip_broken: Skip unreadable images and list them in the JSON file.
        category_ids: Id of each class in the files; None for 1…K. Images have the ids 1…N.

    Raises:
        ValueError: If an image is unreadable and ``skip_broken`` is False.
    """
    device = device_of(detector)
    detector.eval()
    categories = coco_categories(classes, category_ids)
    label_ids = {label: category["id"] for label, category in enumerate(categories, start=1)}
    results: list[dict[str, Any]] = []
    images, broken = [], []
    out.mkdir(parents=True, exist_ok=True)
    for number, file in enumerate(track(files, "predicting"), 1):
        try:
            image = read_image(file)
        except ValueError as error:
            if not skip_broken:
                raise ValueError(f"{error} (--skip-broken skips unreadable images)") from error
            broken.append({"file": str(file), "reason": str(error)})
            continue
        detections = _detect(detector, image.to(device))
        images.append({"id": number, "file_name": str(file), "height": image.shape[1], "width": image.shape[2]})
        results += to_coco_results([detections], [number], label_ids)
        draw_predictions(image, detections, classes, score_threshold, out / f"{number:05d}_{file.stem}.png")
    write_coco_results(out / "results.json", results)
    write_coco_file(out / "predictions.json", images, categories, results, skipped=broken)
    return {"images": images, "categories": categories, "annotations": to_annotations(results), "skipped": broken}


def find_images(paths: list[str]) -> list[Path]:
    """Return the files among ``paths`` and all image files below the folders among them, in order.

    Raises:
        FileNotFoundError: If a path does not exist or contains no image.
    """
    images: list[Path] = []
    for path in map(Path, paths):
        if not path.exists():
            raise FileNotFoundError(f"'{path}' does not exist.")
        images += list_images(path) if path.is_dir() else [path]
    return images


@torch.inference_mode()
def _detect(detector: nn.Module, image: Tensor) -> dict[str, Tensor]:
    return {name: value.cpu() for name, value in detector([image])[0].items()}


def draw_predictions(
    image: Tensor, detections: dict[str, Tensor], classes: Sequence[str], score_threshold: float, path: Path
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
