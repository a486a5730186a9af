"""Pictures that benchmarks of image search learn from and hide their answers among: crops of photographs, views of a gallery."""

import random
from pathlib import Path

from PIL import Image

SOURCES = ("coco", "gtsdb", "sr/BSDS500_train100")
"""Folders of the sample data whose photographs show no sign of TT100K."""


def photos(data: Path, out: Path, count: int, seed: int = 0) -> Path:
    """``count`` square crops of 56 to 112 px from the photographs of :data:`SOURCES`; what is in ``out`` already is kept."""
    luck, out = random.Random(seed), Path(out)
    files = [file for name in SOURCES for file in sorted((data / name).rglob("*.*g"))]
    out.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        source, side, at = luck.choice(files), luck.randint(56, 112), (luck.random(), luck.random())
        file = out / f"photo-{number:05d}.png"
        if not file.exists():
            image = Image.open(source).convert("RGB")
            side = min(side, *image.size)
            x, y = (int(share * (length - side + 1)) for share, length in zip(at, image.size, strict=True))
            _save(image.crop((x, y, x + side, y + side)), file)
    return out


def views(gallery: Path, out: Path, each: int = 1, seed: int = 0) -> Path:
    """Every picture of ``gallery/<class>/``, and ``each`` crops (75–95 % of the sides) of it; what is in ``out`` already is kept."""
    luck = random.Random(seed)
    for file in sorted(gallery.glob("*/*.png")):
        image, folder = Image.open(file).convert("RGB"), Path(out) / file.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        _save(image, folder / file.name)
        for view in range(each):
            share = luck.uniform(0.75, 0.95)
            width, height = int(image.width * share), int(image.height * share)
            x, y = luck.randint(0, image.width - width), luck.randint(0, image.height - height)
            _save(image.crop((x, y, x + width, y + height)), folder / f"{file.stem}-{view}.png")
    return Path(out)


def _save(image: Image.Image, file: Path) -> None:
    if not file.exists():
        half = file.with_suffix(".part")
        image.save(half, format="png")
        half.rename(file)
