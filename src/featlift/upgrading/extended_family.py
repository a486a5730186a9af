"""What the extended level needs to know of a family of detectors, and the maps of the plain pass that it reads.

The level at half the stride of the finest one consists of the detector's own frozen parts on the image enlarged by 2: its early
stages, the last blocks of its neck and its finest head. Only the coarsest map, which is expensive, is not computed on the enlarged
image: that of the plain pass is upsampled by a :class:`~featlift.upgrading.extended_upsampler.GuidedUpsampler`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol

import torch.nn.functional as nnf
from torch import Tensor, nn


@dataclass(frozen=True)
class LevelPredictions:
    """What the head says of the cells (or anchors, or queries) of one level, before selection."""

    boxes: Tensor
    """``[B, N, 4]`` xyxy in px of the network's input (not of the enlarged image)."""
    class_logits: Tensor
    """``[B, N, K]``"""
    objectness_logits: Tensor | None = None
    """``[B, N]``, of heads whose score is objectness times class probability."""
    centerness_logits: Tensor | None = None
    """``[B, N]``, of heads whose score is the geometric mean of class probability and centerness."""

    @property
    def scores(self) -> Tensor:
        """``[B, N, K]`` in 0…1."""
        scores = self.class_logits.sigmoid()
        if self.objectness_logits is not None:
            scores = scores * self.objectness_logits.sigmoid()[..., None]
        if self.centerness_logits is not None:
            scores = (scores * self.centerness_logits.sigmoid()[..., None]).sqrt()
        return scores

    @property
    def sizes(self) -> Tensor:
        """Square roots of the boxes' areas ``[B, N]``, px."""
        return box_sizes(self.boxes)

    def tensors(self) -> dict[str, Tensor]:
        """The tensors that the head predicts, by name."""
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class PlainMapNames:
    """Dotted names of the submodules whose tensors the level reads in the plain pass."""

    image: str
    """Its first input is the network's input ``[B, 3, H, W]``."""
    coarse: str
    """Its output is the coarsest map ``[B, C, h, w]``."""
    guides: tuple[str, ...] = ()
    """Their outputs are maps of twice the size, ``[B, C_i, 2h, 2w]``."""


@dataclass(frozen=True)
class PlainMaps:
    """Tensors of the plain pass."""

    image: Tensor
    coarse: Tensor
    guides: tuple[Tensor, ...]


class LevelFamily(Protocol):
    """A family of detectors with the same structure. It has no state; ``model`` is the detector."""

    name: str

    @property
    def mixin(self) -> type[nn.Module]:
        """:class:`~featlift.upgrading.extended_detector.ExtendedDetector` that adds the level to the outputs."""
        ...

    def matches(self, model: nn.Module) -> bool:
        """Whether ``model`` belongs to the family."""
        ...

    def map_names(self, model: nn.Module) -> PlainMapNames:
        """Which tensors of the plain pass the level reads."""
        ...

    def run_features(self, model: nn.Module, image: Tensor) -> object:
        """Run the part of the plain pass that has these tensors, on the network's input ``[B, 3, H, W]``."""
        ...

    def run_head(self, model: nn.Module, features: Any) -> object:
        """Run the rest of the plain pass on the result of :meth:`run_features`; used to compare costs."""
        ...

    def early_maps(self, model: nn.Module, image: Tensor) -> list[Tensor]:
        """Maps of the early stages of ``image [B, 3, H, W]``; the last has twice the size of the coarsest map and is also a guide."""
        ...

    def coarse_map(self, model: nn.Module, early: Sequence[Tensor]) -> Tensor:
        """The coarsest map ``[B, C, h, w]`` from the early maps; used by the teacher only."""
        ...

    def finest_maps(self, model: nn.Module, early: Sequence[Tensor], coarse: Tensor) -> list[Tensor]:
        """Inputs of the frozen head, the finest map first, from the early maps and the coarsest map."""
        ...

    def predict(self, model: nn.Module, maps: Sequence[Tensor], image_size: tuple[int, int]) -> LevelPredictions:
        """Predictions of the finest head for :meth:`finest_maps` of the enlarged image; ``image_size`` (H, W) is that of the input."""
        ...

    def to_input(self, model: nn.Module, images: Tensor) -> Tensor:
        """Convert ``images [B, 3, H, W]``, RGB in 0…1, to the network's input, without a change of the size."""
        ...


def enlarge(image: Tensor) -> Tensor:
    """``[B, 3, H, W]`` → ``[B, 3, 2H, 2W]``, bilinear."""
    return nnf.interpolate(image, scale_factor=2.0, mode="bilinear", align_corners=False)


def box_sizes(boxes: Tensor) -> Tensor:
    """Square roots of the areas ``[...]`` of boxes ``[..., 4]`` xyxy."""
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1).sqrt()


_ACTIVE: ContextVar[dict[str, Any] | None] = ContextVar("featlift_plain_maps", default=None)


@contextmanager
def capture_maps(model: nn.Module, names: PlainMapNames) -> Iterator[dict[str, Any]]:
    """Record the tensors ``names`` of the passes of ``model`` within the context, in this thread; read them with :func:`plain_maps`."""
    handles = [model.get_submodule(names.image).register_forward_pre_hook(_record_image, with_kwargs=True)]
    for name in (names.coarse, *names.guides):
        handles.append(model.get_submodule(name).register_forward_hook(_OutputRecorder(name)))
    token = _ACTIVE.set(captured := {})
    try:
        yield captured
    finally:
        _ACTIVE.reset(token)
        for handle in handles:
            handle.remove()


def plain_maps(names: PlainMapNames) -> PlainMaps:
    """Return the tensors that :func:`capture_maps` has recorded so far, in the context that is open."""
    captured = _ACTIVE.get() or {}
    missing = [name for name in ("image", names.coarse, *names.guides) if name not in captured]
    if missing:
        raise RuntimeError(
            f"The extended level needs the outputs of {', '.join(missing)}, but these did not run in this pass. Call the model itself."
        )
    return PlainMaps(captured["image"], captured[names.coarse], tuple(captured[name] for name in names.guides))


def _record_image(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    captured = _ACTIVE.get()
    if captured is not None:
        captured.setdefault("image", args[0] if args else next(iter(kwargs.values())))


class _OutputRecorder:
    """Forward hook that records the first output of a module; a class, so that it can be copied and pickled."""

    def __init__(self, name: str):
        self.name = name

    def __call__(self, module: nn.Module, args: object, output: Any) -> None:
        captured = _ACTIVE.get()
        if captured is not None:
            captured.setdefault(self.name, output)
