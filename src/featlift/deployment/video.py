"""Frames of video files, streams and cameras, and annotated videos. Needs PyAV: ``pip install 'featlift[video]'``."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".ts", ".gif")
STREAM_PREFIXES = ("rtsp://", "rtmp://", "udp://", "tcp://")
DEFAULT_RATE = Fraction(25)
"""Frames per second of a source that does not tell."""
ENCODERS = ("libx264", "mpeg4")


@dataclass(frozen=True)
class VideoInfo:
    """Number of frames (0 if unknown) and frames per second."""

    num_frames: int
    rate: Fraction


def read_video_info(source: str) -> VideoInfo:
    """Read the header of a video file or stream.

    Raises:
        ValueError: If it has no video.
        ImportError: naming the extra to install.
    """
    with _open_video(source) as container:
        stream = container.streams.video[0]
        return VideoInfo(int(stream.frames or 0), Fraction(stream.average_rate or DEFAULT_RATE))


def read_frames(source: str, step: int = 1) -> Iterator[tuple[int, Tensor]]:
    """Number, from 0, and pixels ``[3, H, W]`` uint8 of every ``step``-th frame, one at a time.

    Raises:
        ValueError: If it has no video or cannot be decoded.
    """
    av = _import_av()
    with _open_video(source) as container:
        try:
            for number, frame in enumerate(container.decode(video=0)):
                if number % step == 0:
                    yield number, torch.from_numpy(frame.to_ndarray(format="rgb24")).permute(2, 0, 1)
        except av.error.FFmpegError as error:
            raise ValueError(f"{source} cannot be decoded ({error}).") from error


def read_camera(device: int | str, step: int = 1) -> Iterator[tuple[int, Tensor]]:
    """Number and pixels ``[3, H, W]`` uint8 of every ``step``-th frame of the camera with this index, until it ends; needs OpenCV.

    Raises:
        ImportError: naming the extra to install.
        ValueError: If the camera cannot be opened.
    """
    try:
        import cv2
    except ImportError as error:
        raise ImportError("A camera is read with OpenCV: pip install 'featlift[formats]'.") from error
    capture = cv2.VideoCapture(device)
    try:
        if not capture.isOpened():
            raise ValueError(f"Camera {device} cannot be opened.")
        number = 0
        while True:
            succeeded, frame = capture.read()
            if not succeeded:
                return
            if number % step == 0:
                yield number, torch.from_numpy(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)).permute(2, 0, 1)
            number += 1
    finally:
        capture.release()


class VideoWriter:
    """Writer of an MP4 file at ``path``, a context. All frames have the size of the first, whose odd sides are padded by one pixel.

    Raises:
        ImportError: naming the extra to install.
    """

    def __init__(self, path: Path, rate: Fraction = DEFAULT_RATE) -> None:
        self._container, self._rate = _import_av().open(str(path), "w"), rate
        self._stream: Any = None

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def write(self, frame: Tensor) -> None:
        """Append ``frame`` ``[3, H, W]`` uint8."""
        import av

        height, width = (side + side % 2 for side in frame.shape[1:])
        if self._stream is None:
            encoder = next(name for name in ENCODERS if name in av.codecs_available)
            self._stream = self._container.add_stream(encoder, rate=self._rate)
            self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
        padding = (0, width - frame.shape[2], 0, height - frame.shape[1])
        pixels = torch.nn.functional.pad(frame, padding).permute(1, 2, 0).contiguous().numpy()
        for packet in self._stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
            self._container.mux(packet)

    def close(self) -> None:
        """Finish the file."""
        if self._stream is not None:
            for packet in self._stream.encode():
                self._container.mux(packet)
        self._container.close()


def _open_video(source: str) -> Any:
    av = _import_av()
    try:
        container = av.open(source)
    except (av.error.FFmpegError, OSError) as error:
        raise ValueError(f"{source} is no readable video ({error}).") from error
    if not container.streams.video:
        container.close()
        raise ValueError(f"{source} has no video.")
    return container


def _import_av() -> Any:
    try:
        import av
    except ImportError as error:
        raise ImportError("Videos are read and written with PyAV: pip install 'featlift[video]'.") from error
    return av
