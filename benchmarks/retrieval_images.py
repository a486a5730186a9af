"""Training images and distractors of the image search benchmarks: crops of photographs, and views of a gallery."""

import random
from pathlib import Path

from PIL import Image

SOURCES = ("coco", "gtsdb", "sr/BSDS500_train100")
"""Folders of the sample data whose photographs contain no sign of TT100K."""


def write_photo_crops(data: Path, out: Path, count: int, seed: int = 0) -> Path:
    """Write ``count`` square crops of 56 to 112 px of the photographs of :data:`SOURCES`; existing files in ``out`` are kept."""
    rng, out = random.Random(seed), Path(out)
    files = [file for name in SOURCES for file in sorted((data / name).rglob("*.*g"))]
    out.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        source, size, position = rng.choice(files), rng.randint(56, 112), (rng.random(), rng.random())
        file = out / f"photo-{number:05d}.png"
        if not file.exists():
            image = Image.open(source).convert("RGB")
            size = min(size, *image.size)
            x, y = (int(fraction * (length - size + 1)) for fraction, length in zip(position, image.size, strict=True))
            _save(image.crop((x, y, x + size, y + size)), file)
    return out


def write_views(gallery: Path, out: Path, views_per_image: int = 1, seed: int = 0) -> Path:
    """Write every image of ``gallery/<class>/`` and ``views_per_image`` crops (75–95 % of the sides) of it; existing files are kept."""
    rng = random.Random(seed)
    for file in sorted(gallery.glob("*/*.png")):
        image, folder = Image.open(file).convert("RGB"), Path(out) / file.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        _save(image, folder / file.name)
        for view in range(views_per_image):
            fraction = rng.uniform(0.75, 0.95)
            width, height = int(image.width * fraction), int(image.height * fraction)
            x, y = rng.randint(0, image.width - width), rng.randint(0, image.height - height)
            _save(image.crop((x, y, x + width, y + height)), folder / f"{file.stem}-{view}.png")
    return Path(out)


def _save(image: Image.Image, file: Path) -> None:
    if not file.exists():
        unfinished = file.with_suffix(".part")
        image.save(unfinished, format="png")
        unfinished.rename(file)
