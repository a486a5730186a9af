"""The extended level of Ultralytics' detectors with strides 8, 16, 32 (YOLOv5, v8, 9, 10, 11, 12, 26), from the model itself.

The network is a list of layers whose attribute ``f`` says where their inputs come from. The coarsest map is the input of the first
``nn.Upsample`` on the way to the finest input of the head; what lies before it need not be computed on the enlarged image. Ultralytics
itself is not imported.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import box_convert

from featlift.upgrading.extended_detector import ExtendedDetector
from featlift.upgrading.extended_duplicates import find_duplicates
from featlift.upgrading.extended_family import LevelPredictions, PlainMapNames

HEADS = ("Detect", "v10Detect")
"""Heads without masks, key points or angles."""


class ExtendedUltralytics(ExtendedDetector):
    """Ultralytics' ``DetectionModel`` with the predictions of the level."""

    def merge_level(self, outputs: Any) -> Any:
        """``[B, 4 + K, N]`` → ``[B, 4 + K, N + N']``, or ``[B, N, 6]`` → ``[B, N + N', 6]``; scores of large boxes are 0."""
        head: Any = self.model[-1]  # type: ignore[index]
        level = self.run_level(lambda maps, _: head_predictions(head, maps[0]).tensors(), outputs)
        if not level:
            return outputs
        predictions = LevelPredictions(**level)
        scores = predictions.scores * (predictions.sizes < self.level_max_size)[..., None]
        rows = outputs[0] if isinstance(outputs, tuple) else outputs
        if getattr(head, "end2end", False):
            rows = _merge_selected(rows, head.postprocess(torch.cat([predictions.boxes, scores], -1)))
        else:
            boxes = predictions.boxes if head.xyxy else _to_center(predictions.boxes)
            rows = torch.cat([rows, torch.cat([boxes, scores], -1).transpose(1, 2).to(rows.dtype)], 2)
        return (rows, *outputs[1:]) if isinstance(outputs, tuple) else rows

    def plain_candidates(self, outputs: Any) -> tuple[Tensor, Tensor]:
        """From ``[B, 4 + K, N]``, or ``[B, N, 6]`` of heads that select."""
        head: Any = self.model[-1]  # type: ignore[index]
        rows = outputs[0] if isinstance(outputs, tuple) else outputs
        if getattr(head, "end2end", False):
            return rows[..., :4], rows[..., 4]
        boxes = rows[:, :4].transpose(1, 2)
        return boxes if head.xyxy else box_convert(boxes, "cxcywh", "xyxy"), rows[:, 4:].amax(1)


class UltralyticsFamily:
    """Ultralytics' detectors; implements :class:`~featlift.upgrading.extended_family.LevelFamily`."""

    name = "Ultralytics' detectors with strides 8, 16, 32"
    mixin = ExtendedUltralytics

    def matches(self, model: nn.Module) -> bool:
        """Whether ``model`` is a list of layers that ends with a detection head with strides 8, 16, 32."""
        layers = getattr(model, "model", None)
        if not isinstance(layers, nn.Sequential) or not len(layers) or not hasattr(layers[-1], "f"):
            return False
        head: Any = layers[-1]
        return type(head).__name__ in HEADS and head.stride.tolist() == [8, 16, 32] and len(_upsamples(model)) == 2

    def map_names(self, model: nn.Module) -> PlainMapNames:
        """The image, the coarsest map, and at stride 16 the map before the second upsampling and the head's input."""
        graph = find_graph(model)
        return PlainMapNames("model.0", f"model.{graph.coarse}", tuple(f"model.{index}" for index in graph.guides))

    def run_features(self, model: Any, image: Tensor) -> object:
        """Run all layers below the head."""
        outputs = {-1: image}
        return [_compute(model.model, index, outputs) for index in model.model[-1].f]

    def run_head(self, model: Any, features: Any) -> object:
        """Run the head."""
        return model.model[-1](list(features))

    def early_maps(self, model: Any, image: Tensor) -> list[Tensor]:
        """Maps of the backbone that the top-down path reads."""
        outputs = {-1: image}
        return [_compute(model.model, index, outputs) for index in find_graph(model).early]

    def coarse_map(self, model: Any, early: Sequence[Tensor]) -> Tensor:
        """Input of the first upsampling."""
        graph = find_graph(model)
        return _compute(model.model, graph.coarse, dict(zip(graph.early, early, strict=True)))

    def finest_maps(self, model: Any, early: Sequence[Tensor], coarse: Tensor) -> list[Tensor]:
        """Finest input of the head."""
        graph = find_graph(model)
        outputs = dict(zip(graph.early, early, strict=True)) | {graph.coarse: coarse}
        return [_compute(model.model, model.model[-1].f[0], outputs)]

    def predict(self, model: Any, maps: Sequence[Tensor], image_size: tuple[int, int]) -> LevelPredictions:
        """Predictions of the finest branch at stride 4."""
        return head_predictions(model.model[-1], maps[0])

    def to_input(self, model: nn.Module, images: Tensor) -> Tensor:
        """RGB in 0…1."""
        return images


@dataclass(frozen=True)
class LayerGraph:
    """Indices of layers: the coarsest map, two maps at stride 16, and the early maps that the top-down path reads."""

    coarse: int
    guides: tuple[int, ...]
    early: tuple[int, ...]


def find_graph(model: Any) -> LayerGraph:
    """Find the parts of Ultralytics' ``model``."""
    layers, head = model.model, model.model[-1]
    first, second = _upsamples(model)
    coarse = _sources(layers, first)[0]
    top_down = [one for one in _ancestors(layers, head.f[0]) if one != coarse and coarse in _ancestors(layers, one)]
    read = {source for one in top_down for source in _sources(layers, one)} - {coarse, *top_down}
    return LayerGraph(coarse, (_sources(layers, second)[0], head.f[1]), tuple(sorted(read)))


def head_predictions(head: Any, x: Tensor) -> LevelPredictions:
    """Predictions of the finest branch of ``head`` on ``x [B, C, H, W]`` at half its stride."""
    branches = head.one2one if getattr(head, "end2end", False) else head.one2many
    distances = head.dfl(branches["box_head"][0](x).flatten(2)).transpose(1, 2)
    rows, columns = (torch.arange(side, device=x.device, dtype=distances.dtype) + 0.5 for side in x.shape[-2:])
    centers = torch.stack([columns.expand(len(rows), -1), rows[:, None].expand(-1, len(columns))], -1).flatten(0, 1)
    boxes = torch.cat([centers - distances[..., :2], centers + distances[..., 2:]], -1) * (float(head.stride[0]) / 2)
    return LevelPredictions(boxes, branches["cls_head"][0](x).flatten(2).transpose(1, 2))


def _merge_selected(plain: Tensor, added: Tensor) -> Tensor:
    """Concatenate selected rows ``[B, N, 6]`` (xyxy, score, class); the scores of duplicates become 0."""
    sets = (plain, added.to(plain.dtype))
    parts = [tuple(rows[..., part] for rows in sets) for part in (slice(0, 4), 4, 5)]
    kept = []
    for rows, is_duplicate in zip(sets, find_duplicates(*parts), strict=True):  # type: ignore[arg-type]
        scores = rows[..., 4:5] * ~is_duplicate[..., None]
        kept.append(torch.cat([rows[..., :4], scores, rows[..., 5:]], -1))
    return torch.cat(kept, 1)


def _to_center(boxes: Tensor) -> Tensor:
    low, high = boxes.split(2, -1)
    return torch.cat([(low + high) / 2, high - low], -1)


def _upsamples(model: Any) -> list[int]:
    """``nn.Upsample`` layers on the way to the head's finest input."""
    layers = model.model
    return [index for index in _ancestors(layers, layers[-1].f[0]) if isinstance(layers[index], nn.Upsample)]


def _sources(layers: Any, index: int) -> list[int]:
    """Indices of the layers whose outputs layer ``index`` reads; -1 is the image."""
    sources = layers[index].f
    return [s if s >= 0 else index + s for s in ([sources] if isinstance(sources, int) else sources)]


def _ancestors(layers: Any, index: int) -> list[int]:
    """Layer ``index`` and all that its output depends on, in order."""
    found, waiting = set(), [index]
    while waiting:
        current = waiting.pop()
        if current >= 0 and current not in found:
            found.add(current)
            waiting += _sources(layers, current)
    return sorted(found)


def _compute(layers: Any, index: int, outputs: dict[int, Tensor]) -> Tensor:
    """Output of layer ``index`` from the known ``outputs``, to which those of other layers are added."""
    if index not in outputs:
        inputs = [_compute(layers, source, outputs) for source in _sources(layers, index)]
        outputs[index] = layers[index](inputs[0] if isinstance(layers[index].f, int) else inputs)
    return outputs[index]
