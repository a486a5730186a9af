"""``featlift predict``: pictures in; the same pictures with what was found drawn on them, and a COCO json, out."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from featlift.data.image_io import read_picture
from featlift.evaluation.detection import as_results
from featlift.papers import baseline
from featlift.training.run import write_json

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm")


def predict(
    run: str,
    pictures: list[str],
    out: str = "predictions",
    threshold: float = 0.5,
    device: str = "cpu",
    skip_broken: bool = False,
) -> Path:
    """Find objects in pictures.

    Args:
        run: a run folder or a detector file.
        pictures: files and folders (searched through).
        out: folder for the drawn pictures and ``predictions.json``.
        threshold: what is drawn has at least this score; the json has everything.
        device: "cpu", "cuda", ….
        skip_broken: go on without unreadable pictures and list them in the json.
    """
    detector, classes = baseline.load(run)
    detector.to(device).eval()
    files = find_pictures(pictures)
    results: list[dict[str, Any]] = []
    images, broken = [], []
    Path(out).mkdir(parents=True, exist_ok=True)
    for number, file in enumerate(_watched(files), 1):
        try:
            image = read_picture(file)
        except ValueError as error:
            if not skip_broken:
                raise ValueError(f"{error} (--skip-broken goes on without it)") from error
            broken.append({"file": str(file), "reason": str(error)})
            continue
        found = _found(detector, image.to(device))
        images.append({"id": number, "file_name": str(file), "height": image.shape[1], "width": image.shape[2]})
        results += as_results([found], [number])
        draw(image, found, classes, threshold, Path(out) / f"{number:05d}_{file.stem}.png")
    categories = [{"id": i, "name": name} for i, name in enumerate(classes, 1)]
    whole = {"images": images, "categories": categories, "annotations": results, "skipped": broken}
    write_json(Path(out) / "predictions.json", whole)
    print(f"{len(images)} pictures, {len(results)} detections, {len(broken)} skipped: {out}")
    return Path(out)


def find_pictures(given: list[str]) -> list[Path]:
    """Every picture file among ``given`` files and below ``given`` folders, in order.

    Raises:
        FileNotFoundError: if something is not there, or holds no picture.
    """
    found: list[Path] = []
    for path in map(Path, given):
        if not path.exists():
            raise FileNotFoundError(f"There is no '{path}'.")
        inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in PICTURES) if path.is_dir() else [path]
        if not inside:
            raise FileNotFoundError(f"'{path}' holds no picture ({', '.join(PICTURES)}).")
        found += inside
    return found


@torch.inference_mode()
def _found(detector: nn.Module, image: Tensor) -> dict[str, Tensor]:
    return {name: value.cpu() for name, value in detector([image])[0].items()}


def draw(image: Tensor, found: dict[str, Tensor], classes: list[str], threshold: float, path: Path) -> None:
    """Write ``image [3, H, W]`` with the boxes (and masks) of ``found`` that score at least ``threshold``."""
    from torchvision.transforms.functional import to_pil_image
    from torchvision.utils import draw_bounding_boxes, draw_segmentation_masks

    keep = found["scores"] >= threshold
    shown = (image * 255).round().clamp(0, 255).byte()
    texts = [
        f"{classes[label - 1]} {score:.2f}"
        for label, score in zip(found["labels"][keep].tolist(), found["scores"][keep].tolist(), strict=True)
    ]
    if "masks" in found and keep.any():
        shown = draw_segmentation_masks(shown, found["masks"][keep][:, 0] > 0.5, alpha=0.4, colors="#e6194b")
    if texts:
        shown = draw_bounding_boxes(shown, found["boxes"][keep], texts, colors="#e6194b", width=2)
    to_pil_image(shown).save(path)


def _watched(files: list[Path]) -> Iterator[Path]:
    from rich.progress import track

    yield from track(files, description="predicting")
