"""Look at the images of a dataset for mistakes that no file format shows: equal images, EXIF rotations, dark ranges."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from featlift.data.dataset import ImageDataset
from featlift.data.image_io import open_image_header, read_orientation
from featlift.data.problems import Finding

DARK_PEAK = 1 / 8
"""Fraction of the range below which the brightest pixel of a 16-bit or float image is reported."""


@runtime_checkable
class HasImageFiles(Protocol):
    """A dataset whose images are files."""

    def image_file(self, index: int) -> Any:
        """File of image ``index``: a path, or an object with ``open("rb")``."""
        ...


@dataclass(frozen=True)
class ImageFacts:
    """Name, hash of the pixels, brightest value in 0…1, EXIF orientation 1…8, and Pillow's mode ("" without a file)."""

    name: str
    digest: str
    peak: float
    orientation: int = 1
    mode: str = ""
    is_square: bool = False


def read_image_facts(dataset: ImageDataset) -> Iterator[ImageFacts]:
    """Decode every image of ``dataset`` and yield its facts."""
    for index in range(len(dataset)):
        image = dataset[index][0]
        pixels = (image * 255).round().byte()
        digest = hashlib.sha256(str(tuple(pixels.shape)).encode() + pixels.numpy().tobytes()).hexdigest()
        header = read_image_header(dataset.image_file(index)) if isinstance(dataset, HasImageFiles) else (1, "")
        height, width = dataset.image_size(index)
        yield ImageFacts(dataset.image_name(index), digest, float(image.max()), *header, height == width)


def read_image_header(file: Any) -> tuple[int, str]:
    """EXIF orientation 1…8 and Pillow's mode of an image file."""
    with open_image_header(file) as image:
        return read_orientation(image), image.mode


def check_image_facts(facts: Sequence[ImageFacts]) -> list[Finding]:
    """Warn of equal images, EXIF orientations, and dark 16-bit or float images."""
    turned = [f.name for f in facts if f.orientation > 1 and (f.orientation < 5 or f.is_square)]
    sideways = [f.name for f in facts if f.orientation >= 5 and not f.is_square]
    dark = [f for f in facts if f.mode[:1] in ("I", "F") and f.peak < DARK_PEAK]
    findings = [
        Finding("warning", "images twice in the split", [" = ".join(names) for names in find_equal_images(facts)]),
        Finding(
            "warning",
            "images turned or mirrored by EXIF whose size does not show whether boxes are upright (taken as upright)",
            turned,
        ),
        Finding(
            "warning", "images turned by EXIF; the size in the annotations decides whether boxes are upright", sideways
        ),
        Finding(
            "warning",
            "16-bit or float images that use little of their range, so they look dark (12 bits in 16?)",
            [f"{f.name} (up to {100 * f.peak:.1f} %)" for f in dark],
        ),
    ]
    return [finding for finding in findings if finding.examples]


def find_equal_images(facts: Sequence[ImageFacts]) -> list[list[str]]:
    """Groups of the names of images with equal pixels."""
    names: dict[str, list[str]] = defaultdict(list)
    for image in facts:
        names[image.digest].append(image.name)
    return [group for group in names.values() if len(group) > 1]


def check_common_images(facts: Mapping[str, Sequence[ImageFacts]]) -> list[Finding]:
    """Report images of one split that are also in another; ``facts`` maps splits to images."""
    findings = []
    splits = list(facts)
    for number, first in enumerate(splits):
        digests = {image.digest: image.name for image in facts[first]}
        for second in splits[number + 1 :]:
            common = [f"{digests[i.digest]} = {i.name}" for i in facts[second] if i.digest in digests]
            if common:
                findings.append(Finding("error", f"images of {first} are also in {second}", common))
    return findings
