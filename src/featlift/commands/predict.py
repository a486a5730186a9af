"""``featlift predict``: pictures in; the same pictures with what was found drawn on them, and a COCO json, out."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from featlift.data.image_io import read_image
from featlift.evaluation.detection import to_coco_results
from featlift.papers import baseline
from featlift.training.run import write_json

_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm")


def predict(
    model: str,
    sources: list[str],
    out: str = "predictions",
    score_threshold: float = 0.5,
    device: str = "cpu",
    skip_broken: bool = False,
) -> Path:
    """Find objects in pictures.

    Args:
        model: a run folder or a detector file.
        sources: files and folders (searched through).
        out: folder for the drawn pictures and ``predictions.json``.
        score_threshold: what is drawn has at least this score; the json has everything.
        device: "cpu", "cuda", ….
        skip_broken: go on without unreadable pictures and list them in the json.
    """
    detector, classes = baseline.load_detector(model)
    detector.to(device).eval()
    files = find_images(sources)
    results: list[dict[str, Any]] = []
    images, broken = [], []
    Path(out).mkdir(parents=True, exist_ok=True)
    for number, file in enumerate(_with_progress(files), 1):
        try:
            image = read_image(file)
        except ValueError as error:
            if not skip_broken:
                raise ValueError(f"{error} (--skip-broken goes on without it)") from error
            broken.append({"file": str(file), "reason": str(error)})
            continue
        found = _detect(detector, image.to(device))
        images.append({"id": number, "file_name": str(file), "height": image.shape[1], "width": image.shape[2]})
        results += to_coco_results([found], [number])
        draw_predictions(image, found, classes, score_threshold, Path(out) / f"{number:05d}_{file.stem}.png")
    categories = [{"id": i, "name": name} for i, name in enumerate(classes, 1)]
    whole = {"images": images, "categories": categories, "annotations": results, "skipped": broken}
    write_json(Path(out) / "predictions.json", whole)
    print(f"{len(images)} pictures, {len(results)} detections, {len(broken)} skipped: {out}")
    return Path(out)


def find_images(paths: list[str]) -> list[Path]:
    """Every picture file among ``paths`` files and below ``paths`` folders, in order.

    Raises:
        FileNotFoundError: if something is not there, or holds no picture.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if not path.exists():
            raise FileNotFoundError(f"There is no '{path}'.")
        inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in _IMAGE_SUFFIXES) if path.is_dir() else [path]
        if not inside:
            raise FileNotFoundError(f"'{path}' holds no picture ({', '.join(_IMAGE_SUFFIXES)}).")
        found += inside
    return found


@torch.inference_mode()
def _detect(detector: nn.Module, image: Tensor) -> dict[str, Tensor]:
    return {name: value.cpu() for name, value in detector([image])[0].items()}


def draw_predictions(
    image: Tensor, detections: dict[str, Tensor], classes: list[str], score_threshold: float, path: Path
) -> None:
    """Write ``image [3, H, W]`` with the boxes (and masks) of ``detections`` that score at least ``score_threshold``."""
    from torchvision.transforms.functional import to_pil_image
    from torchvision.utils import draw_bounding_boxes, draw_segmentation_masks

    keep = detections["scores"] >= score_threshold
    shown = (image * 255).round().clamp(0, 255).byte()
    texts = [
        f"{classes[label - 1]} {score:.2f}"
        for label, score in zip(detections["labels"][keep].tolist(), detections["scores"][keep].tolist(), strict=True)
    ]
    if "masks" in detections and keep.any():
        shown = draw_segmentation_masks(shown, detections["masks"][keep][:, 0] > 0.5, alpha=0.4, colors="#e6194b")
    if texts:
        shown = draw_bounding_boxes(shown, detections["boxes"][keep], texts, colors="#e6194b", width=2)
    to_pil_image(shown).save(path)


def _with_progress(files: list[Path]) -> Iterator[Path]:
    from rich.progress import track

    yield from track(files, description="predicting")
