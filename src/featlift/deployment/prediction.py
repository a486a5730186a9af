"""Detect objects in images and videos; write annotated images and videos, COCO JSON and YOLO labels."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from featlift.data.dataset import coco_categories
from featlift.data.formats.export import unique_names
from featlift.data.image_io import MAX_PIXELS
from featlift.deployment.image_sources import ImageSource, Source, VideoSource
from featlift.deployment.prediction_files import PredictionFiles
from featlift.deployment.predictor import Prediction, Predictor
from featlift.deployment.video import VideoWriter
from featlift.training.progress import track


@dataclass(frozen=True)
class PredictionOptions:
    """What a prediction writes, and from which frames.

    Attributes:
        score_threshold: Minimum score of detections that are drawn or written as YOLO labels; the JSON files contain all.
        draw: Whether to write annotated images and videos.
        save_txt: Whether to write YOLO label files, ``labels/NAME.txt``.
        save_conf: Whether these have the score at the end of each line.
        frame_step: Use every n-th frame of videos, streams and cameras.
        max_frames: Number of frames after which a video, stream or camera ends; 0 for all.
        skip_broken: Skip unreadable images and list them, instead of stopping.
        max_pixels: Maximum number of pixels of an image.
    """

    score_threshold: float = 0.5
    draw: bool = True
    save_txt: bool = False
    save_conf: bool = False
    frame_step: int = 1
    max_frames: int = 0
    skip_broken: bool = False
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not 0 <= self.score_threshold <= 1:
            raise ValueError(f"--score-threshold is {self.score_threshold:g}; scores are between 0 and 1.")
        if self.frame_step < 1 or self.max_frames < 0:
            raise ValueError(
                f"--frame-step is {self.frame_step}, at least 1; --max-frames is {self.max_frames}, at least 0."
            )


@dataclass(frozen=True)
class PredictionCounts:
    """Number of images and frames, of detections, and of unreadable images."""

    num_images: int
    num_detections: int
    num_skipped: int

    def __str__(self) -> str:
        return f"{self.num_images} images, {self.num_detections} detections, {self.num_skipped} skipped"


def predict_sources(
    predictor: Predictor, sources: Sequence[Source], out: Path, options: PredictionOptions | None = None
) -> PredictionCounts:
    """Detect objects in ``sources`` and write the results into ``out``.

    ``predictions.json`` is a COCO file with images and categories, ``results.json`` the list of COCO results; both have all detections of
    the predictor. Annotated images are ``NAME.png``, videos ``NAME.mp4``, label files ``labels/NAME.txt``; equal names get their folder or
    a number. One image is in memory at a time. Ctrl-C ends the prediction; what was predicted is written.

    Raises:
        ValueError: If ``out`` is a folder of the images, or an image is unreadable and ``options.skip_broken`` is False.
    """
    options = options or PredictionOptions()
    _check_out(sources, out)
    names = unique_names([_file_name(source) for source in sources])
    total = _count_images(sources, options)
    num_skipped = 0
    with PredictionFiles(out, coco_categories(predictor.classes, predictor.category_ids)) as files:
        predictions = (
            prediction
            for source, name in zip(sources, names, strict=True)
            for prediction in _predict_source(predictor, source, name, files, options)
        )
        try:
            for prediction in track(predictions, "predicting", total=total or None):
                num_skipped += bool(prediction.error)
        except KeyboardInterrupt:
            print(f"stopped; the files in {out} contain what was predicted until now")
    return PredictionCounts(files.num_images, files.num_detections, num_skipped)


def _predict_source(
    predictor: Predictor, source: Source, name: str, files: PredictionFiles, options: PredictionOptions
) -> Iterator[Prediction]:
    """Predict and write each image or frame of ``source``."""
    stream = predictor.stream([source], options.frame_step, options.skip_broken, options.max_pixels)
    if isinstance(source, ImageSource):
        for prediction in stream:
            if not prediction.error and options.draw:
                _save_image(prediction, files.add_file(files.folder / f"{name}.png"), options)
            yield _write(prediction, name, files, options)
        return
    writer = None
    try:
        for number, prediction in enumerate(stream):
            if options.max_frames and number == options.max_frames:
                break
            if options.draw:
                writer = writer or VideoWriter(
                    files.add_file(files.folder / f"{name}.mp4"), source.rate() / options.frame_step
                )
                writer.write(prediction.above(options.score_threshold).draw())
            yield _write(prediction, f"{name}_{number * options.frame_step:06d}", files, options)
    finally:
        if writer is not None:
            writer.close()


def _write(prediction: Prediction, name: str, files: PredictionFiles, options: PredictionOptions) -> Prediction:
    """Add ``prediction`` to the JSON files, and write its label file."""
    if prediction.error:
        files.add_skipped(prediction.name, prediction.error)
        return prediction
    height, width = prediction.image.shape[1:]
    files.add_image(prediction.name, (height, width), prediction.to_coco(files.num_images + 1))
    if options.save_txt:
        text = prediction.above(options.score_threshold).to_yolo(options.save_conf)
        files.add_file(files.folder / "labels" / f"{name}.txt").write_text(text)
    return prediction


def _save_image(prediction: Prediction, path: Path, options: PredictionOptions) -> None:
    from torchvision.transforms.functional import to_pil_image

    to_pil_image(prediction.above(options.score_threshold).draw()).save(path)


def _check_out(sources: Sequence[Source], out: Path) -> None:
    folders = {source.content.parent.resolve() for source in sources if isinstance(source.content, Path)}
    if out.resolve() in folders:
        raise ValueError(
            f"--out {out} is a folder of the images; choose another, so that drawings and images stay apart."
        )


def _file_name(source: Source) -> str:
    """Name from which that of the output is made: a path, the last part of a URL, or "camera-0"."""
    if isinstance(source.content, Path):
        return str(source.content)
    if isinstance(source.content, str) and "://" in source.content:
        return source.content.partition("?")[0].rstrip("/").rpartition("/")[2] or "image"
    return str(source.content) if isinstance(source.content, str) else source.name.replace(" ", "-")


def _count_images(sources: Sequence[Source], options: PredictionOptions) -> int:
    """Number of images and frames; 0 if it is not known."""
    counts = [1 if isinstance(source, ImageSource) else _count_frames(source, options) for source in sources]
    return sum(counts) if all(counts) else 0


def _count_frames(source: VideoSource, options: PredictionOptions) -> int:
    number = -(-source.num_frames() // options.frame_step)
    return min(number or options.max_frames, options.max_frames or number)
