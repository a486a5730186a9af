"""The tabs of the app: inputs, buttons and outputs of each comparison."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from featlift.app.detection import (
    DetectorOutput,
    draw_changes,
    draw_feature_maps,
    find_changed,
    format_table,
    run_detectors,
)
from featlift.app.search import SearchComparison
from featlift.app.super_resolution import UpscalingComparison
from featlift.data.image_io import ImageReadError, read_image
from featlift.deployment.predictor import Predictor
from featlift.report.annotated_crops import to_uint8

BUTTONS = ["download", "fullscreen"]
"""Buttons of shown images; gradio's default ones include one that uploads to a server."""
LEGEND = "White boxes: both detectors. Red: only the first. Green: only the second."


@dataclass(frozen=True)
class AppContent:
    """What the app compares.

    Attributes:
        predictors: One or two detectors by name.
        search: Index with an optional generator; None for no tab.
        upscaling: Super-resolution network; None for no tab.
        max_pixels: Maximum number of pixels of an image.
    """

    predictors: Mapping[str, Predictor]
    search: SearchComparison | None
    upscaling: UpscalingComparison | None
    max_pixels: int


def add_detection_tab(gr: Any, content: AppContent) -> None:
    """Add to the page: an image, the detections of every detector, boxes that appeared and vanished, feature maps and times."""
    names = list(content.predictors)
    with gr.Row():
        image = _image_input(gr, "detection-input")
        with gr.Column():
            threshold = gr.Slider(0, 1, 0.5, step=0.01, label="minimum score", elem_id="threshold")
            button = gr.Button("Detect", variant="primary", elem_id="detect")
            table = gr.Markdown(elem_id="detection-table")
            gr.Markdown(LEGEND if len(names) > 1 else "")
    with gr.Row():
        drawn = [
            gr.Image(label=name, interactive=False, buttons=BUTTONS, elem_id=f"detections-{i}")
            for i, name in enumerate(names)
        ]
    maps = gr.Gallery(
        label="feature maps",
        columns=2 * len(names),
        elem_id="feature-maps",
        buttons=BUTTONS,
        object_fit="contain",
        height="auto",
    )
    outputs = gr.State()

    def detect(path: str | None, minimum: float) -> list[Any]:
        found = run_detectors(content.predictors, read_dropped_image(gr, path, content.max_pixels))
        features = {name: output.features for name, output in found.items()}
        return [found, draw_feature_maps(features), *_show_detections(found, minimum)]

    def change_threshold(found: dict[str, DetectorOutput] | None, minimum: float) -> list[Any]:
        return _show_detections(found, minimum) if found else [None] * (1 + len(names))

    button.click(detect, [image, threshold], [outputs, maps, table, *drawn])
    threshold.release(change_threshold, [outputs, threshold], [table, *drawn])


def _show_detections(outputs: Mapping[str, DetectorOutput], minimum: float) -> list[Any]:
    """The table, and the image of each detector, of detections with at least the score ``minimum``."""
    predictions = [output.prediction.above(minimum) for output in outputs.values()]
    changed = find_changed(predictions)
    kinds = ("vanished", "appeared")
    images = [draw_changes(*each) for each in zip(predictions, changed, kinds, strict=False)]
    return [format_table(outputs, predictions, changed), *images]


def add_search_tab(gr: Any, content: AppContent) -> None:
    """Add to the page: a query image and the rankings of its raw and its super-resolved descriptor."""
    search: SearchComparison = content.search  # type: ignore[assignment]
    with gr.Row():
        image = _image_input(gr, "query")
        with gr.Column():
            number = gr.Slider(1, 24, 8, step=1, label="results", elem_id="num-results")
            button = gr.Button("Search", variant="primary", elem_id="search")
            table = gr.Markdown(elem_id="search-table")
    galleries = [
        gr.Gallery(label=name, columns=4, elem_id=f"results-{name}", height="auto", buttons=BUTTONS)
        for name in search.rankings
    ]

    def find(path: str | None, k: int) -> list[Any]:
        read_dropped_image(gr, path, content.max_pixels)
        found = search(Path(path or ""), int(k), content.max_pixels)
        return [found.table, *found.images.values()]

    button.click(find, [image, number], [table, *galleries])


def add_super_resolution_tab(gr: Any, content: AppContent) -> None:
    """Add to the page: a low-resolution image, upscaled by bicubic interpolation and by the network."""
    compare: UpscalingComparison = content.upscaling  # type: ignore[assignment]
    with gr.Row():
        image = _image_input(gr, "low-resolution")
        with gr.Column():
            button = gr.Button(f"Upscale {compare.scale}x", variant="primary", elem_id="upscale")
            table = gr.Markdown(elem_id="upscaling-table")
    with gr.Row():
        upscaled = [
            gr.Image(label=name, interactive=False, buttons=BUTTONS, elem_id=f"upscaled-{name}")
            for name in ("bicubic", "network")
        ]

    def upscale(path: str | None) -> list[Any]:
        found = compare(read_dropped_image(gr, path, content.max_pixels))
        rows = [f"| {name} | {result.milliseconds:.1f} |" for name, result in found.items()]
        return [
            "\n".join(["| upscaling | ms |", "|:--|--:|", *rows]),
            *(to_uint8(each.image) for each in found.values()),
        ]

    button.click(upscale, [image], [table, *upscaled])


def _image_input(gr: Any, elem_id: str) -> Any:
    """An input that gives the path of the file as it is, so that `read_image` reads every mode and orientation."""
    return gr.Image(type="filepath", image_mode=None, sources=["upload", "clipboard"], label="image", elem_id=elem_id)


def read_dropped_image(gr: Any, path: str | None, max_pixels: int) -> Tensor:
    """Image ``[3, H, W]`` in 0…1 of a file that was dropped.

    Raises:
        gradio.Error: which the page shows, if there is no file or it cannot be read.
    """
    if path is None:
        raise gr.Error("Drop an image first.")
    try:
        return read_image(Path(path), None, max_pixels)
    except ImageReadError as error:
        raise gr.Error(str(error)) from error
