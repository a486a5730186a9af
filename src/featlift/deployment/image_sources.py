"""Sources of images: files, folders, patterns, URLs, videos, streams, cameras, and images in memory, read one at a time."""

import glob
import io
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from torch import Tensor

from featlift.data.image_io import IMAGE_SUFFIXES, MAX_PIXELS, ImageReadError, list_images, read_image, to_image_tensor
from featlift.deployment.video import (
    DEFAULT_RATE,
    STREAM_PREFIXES,
    VIDEO_SUFFIXES,
    read_camera,
    read_frames,
    read_video_info,
)

MAX_DOWNLOAD_BYTES = 256 * 1024**2
TIMEOUT = 30
"""Seconds until a server has to answer."""


@dataclass(frozen=True)
class ImageSource:
    """An image file, URL, or image in memory (PIL image, array, tensor)."""

    name: str
    content: Any

    def read(self, max_pixels: int = MAX_PIXELS) -> Tensor:
        """Image ``[3, H, W]`` float32 in 0…1.

        Raises:
            ImageReadError: If it cannot be read, or is a file of more than ``max_pixels`` pixels.
        """
        if isinstance(self.content, Path):
            return read_image(self.content, None, max_pixels)
        if isinstance(self.content, str):
            return read_image(_Download(self.content), None, max_pixels)  # type: ignore[arg-type]
        return to_image_tensor(self.content)


@dataclass(frozen=True)
class VideoSource:
    """A video file or stream, or a camera if ``content`` is its index."""

    name: str
    content: str | int

    def frames(self, step: int = 1) -> Iterator[tuple[int, Tensor]]:
        """Number and pixels ``[3, H, W]`` float32 in 0…1 of every ``step``-th frame."""
        read = read_camera if isinstance(self.content, int) else read_frames
        for number, frame in read(self.content, step):  # type: ignore[arg-type]
            yield number, frame.float() / 255

    def rate(self) -> Fraction:
        """Frames per second."""
        return DEFAULT_RATE if isinstance(self.content, int) else read_video_info(self.content).rate

    def num_frames(self) -> int:
        """Number of frames; 0 if it is not known before the end."""
        return 0 if isinstance(self.content, int) else read_video_info(self.content).num_frames


Source = ImageSource | VideoSource


def find_sources(sources: Any) -> list[Source]:
    """List the images and videos that ``sources`` names; none is read yet.

    Args:
        sources: One source or a list: a file, a folder (searched recursively), a pattern such as ``"images/*.jpg"`` or
            ``"images/**/*.png"``, an http(s) URL, a stream (``rtsp://…``), the index of a camera ("0"), or an image in memory.

    Raises:
        FileNotFoundError: If a path does not exist, or a folder or pattern has no image.
        ValueError: If a file is neither an image nor a video by its suffix.
    """
    listed = sources if isinstance(sources, (list, tuple)) else [sources]
    return [source for index, each in enumerate(listed) for source in _find(each, index)]


def find_images(paths: Sequence[str | Path]) -> list[Path]:
    """Image files among and below ``paths``, in order; see `find_sources`.

    Raises:
        FileNotFoundError: If a path does not exist or contains no image.
    """
    sources = find_sources(list(paths))
    return [source.content for source in sources if isinstance(source.content, Path)]


def _find(source: Any, index: int) -> list[Source]:
    if not isinstance(source, (str, Path)):
        return [
            VideoSource(f"camera {source}", source)
            if isinstance(source, int)
            else ImageSource(f"image-{index + 1}", source)
        ]
    text = str(source)
    if text.startswith(STREAM_PREFIXES):
        return [VideoSource(text, text)]
    if text.startswith(("http://", "https://")):
        is_video = Path(text.partition("?")[0]).suffix.lower() in VIDEO_SUFFIXES
        return [VideoSource(text, text) if is_video else ImageSource(text, text)]
    path = Path(source)
    if path.is_dir():
        return _find_in_folder(path)
    if path.exists():
        return [_to_source(path)]
    if text.isdigit():
        return [VideoSource(f"camera {text}", int(text))]
    matches = [Path(name) for name in sorted(glob.glob(text, recursive=True))] if glob.has_magic(text) else []
    files = [match for match in matches if match.suffix.lower() in (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES)]
    if not files:
        reason = "matches no image" if glob.has_magic(text) else "does not exist"
        raise FileNotFoundError(f"'{source}' {reason}.")
    return [_to_source(match) for match in files]


def _find_in_folder(folder: Path) -> list[Source]:
    videos = sorted(
        path for path in folder.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith(".")
    )
    try:
        images = list_images(folder)
    except FileNotFoundError:
        if not videos:
            raise
        images = []
    return [_to_source(path) for path in sorted([*images, *videos])]


def _to_source(path: Path) -> Source:
    is_video = path.suffix.lower() in VIDEO_SUFFIXES
    return VideoSource(str(path), str(path)) if is_video else ImageSource(str(path), path)


class _Download:
    """An image behind a URL, which is loaded when it is opened."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __str__(self) -> str:
        return self._url

    def open(self, mode: str = "rb") -> io.BytesIO:
        """Content of the answer.

        Raises:
            ImageReadError: If the server does not answer with a file of at most `MAX_DOWNLOAD_BYTES`.
        """
        try:
            with urllib.request.urlopen(self._url, timeout=TIMEOUT) as answer:
                content = answer.read(MAX_DOWNLOAD_BYTES + 1)
        except (OSError, ValueError, urllib.error.URLError) as error:
            raise ImageReadError(f"{self._url} cannot be loaded ({error}).") from error
        if len(content) > MAX_DOWNLOAD_BYTES:
            raise ImageReadError(f"{self._url} has more than {MAX_DOWNLOAD_BYTES // 1024**2} MB.")
        return io.BytesIO(content)
