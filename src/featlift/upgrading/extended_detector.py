"""A detector whose finest head also looks at a finer level; the detector itself, with another class and one more child.

While the level is disabled, or in training mode, the detector's own code runs and nothing else.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from featlift.detectors.eval_mode import eval_mode
from featlift.features import spatial_size
from featlift.registry import check_options
from featlift.upgrading.extended_family import (
    LevelFamily,
    PlainMapNames,
    PlainMaps,
    capture_maps,
    enlarge,
    plain_maps,
)
from featlift.upgrading.extended_upsampler import GuidedUpsampler
from featlift.upgrading.extended_windows import select_windows
from featlift.upgrading.modules import swap_class

PredictLevel = Callable[[list[Tensor], tuple[int, int]], dict[str, Tensor]]

TRACE_SIZE = 128
"""Side in px of the image from which the channels of the maps are read."""


class ExtendedDetector(nn.Module):
    """Mixin for the class of a detector (see :func:`install`); subclasses add the level to the outputs in :meth:`merge_level`."""

    added_level: GuidedUpsampler
    level_family: LevelFamily
    level_max_size: float
    level_min_score: float = 0.0
    has_windows = True
    """Whether the level can be computed in windows."""
    original_class: type[nn.Module]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The original ``forward`` on ``[B, 3, H, W]`` or a list of images, with the boxes of the level if it is enabled."""
        if not self.level_is_used:
            return super().forward(*args, **kwargs)
        with capture_maps(self, self.level_map_names):
            return self.merge_level(super().forward(*args, **kwargs))

    @property
    def level_is_used(self) -> bool:
        """Whether the level is enabled and the detector in evaluation mode."""
        return bool(self.level_max_size) and not self.training

    @property
    def level_map_names(self) -> PlainMapNames:
        """Names of the tensors of the plain pass that the level reads."""
        return self.level_family.map_names(self)

    def merge_level(self, outputs: Any) -> Any:
        """Add the boxes of the level to the ``outputs`` of the plain pass."""
        raise NotImplementedError

    def compute_level(self) -> list[Tensor]:
        """Compute the inputs of the head for the level, from the plain pass within :func:`capture_maps`."""
        return student_maps(self, plain_maps(self.level_map_names))[0]

    def plain_candidates(self, outputs: Any) -> tuple[Tensor, Tensor]:
        """Boxes ``[B, N, 4]`` xyxy, px of the network's input, and scores ``[B, N]`` of the ``outputs`` of the plain pass."""
        raise NotImplementedError

    def run_level(self, predict: PredictLevel, outputs: Any) -> dict[str, Tensor]:
        """Run the level in the open pass, everywhere or in windows around small boxes of the plain ``outputs``.

        Args:
            predict: Function from the inputs of the head and the size (H, W) of their image to predictions ``[n, N, ...]`` by name.
            outputs: Of the plain pass; only read for windows.

        Returns:
            Predictions ``[B, M, ...]``; empty if there is no window.
        """
        plain = plain_maps(self.level_map_names)
        if not self.level_min_score:
            return predict(student_maps(self, plain)[0], spatial_size(plain.image))
        if torch.compiler.is_exporting() or torch.jit.is_tracing():
            raise RuntimeError(
                "Windows depend on the image and cannot be exported: call enable_level(model, max_size) without min_score first."
            )
        groups = select_windows(plain, *self.plain_candidates(outputs), self.level_max_size, self.level_min_score)
        parts = []
        for group in groups:
            crops = group.crop(plain)
            values = predict(student_maps(self, crops)[0], spatial_size(crops.image))
            parts.append(group.place(values, spatial_size(crops.image)[0] // group.shape[0], len(plain.image)))
        return {name: torch.cat([part[name] for part in parts], 1) for name in (parts[0] if parts else ())}

    def restore(self) -> None:
        """Restore the original class."""
        original_class = self.original_class
        self.__dict__.pop("level_min_score", None)
        del self.added_level, self.level_family, self.level_max_size
        swap_class(self, original_class)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Copy and pickle by the original class, since the subclass is created at run time and cannot be imported."""
        return _new_instance, (self.original_class, self.level_family), self.__dict__


@functools.cache
def extend_class(original_class: type[nn.Module], mixin: type[nn.Module]) -> type[nn.Module]:
    """Return the subclass of ``mixin`` and ``original_class``, so ``isinstance(…, original_class)`` stays true."""
    return type(f"Extended{original_class.__name__}", (mixin, original_class), {"original_class": original_class})


def install(model: nn.Module, family: LevelFamily, name: str, options: dict[str, Any]) -> None:
    """Add a disabled level to ``model`` in place.

    Args:
        model: Detector of the ``family``.
        family: Its family.
        name: Interpolator of the :class:`GuidedUpsampler`.
        options: Its further options, ``width`` and ``num_blocks``.

    Raises:
        ValueError: If the interpolator or an option is unknown.
    """
    check_options("The extended level p3x", GuidedUpsampler, options, skip=("channels", "guide_channels", "name"))
    like = next(model.parameters())
    with eval_mode(model), torch.no_grad():
        maps = run_plain(model, family, like.new_zeros(1, 3, TRACE_SIZE, TRACE_SIZE))
        finest_early = family.early_maps(model, maps.image)[-1]
    channels = [x.shape[1] for x in (finest_early, *maps.guides)]
    added = GuidedUpsampler(maps.coarse.shape[1], channels, name, **options).to(like.device, like.dtype)
    swap_class(model, extend_class(type(model), family.mixin))
    extended: Any = model
    extended.added_level = added.train(model.training)
    model.__dict__.update(level_family=family, level_max_size=0.0)


def run_plain(model: nn.Module, family: LevelFamily, image: Tensor) -> PlainMaps:
    """Run the plain pass on the network's input ``image [B, 3, H, W]`` and return the maps that the level reads."""
    names = family.map_names(model)
    with capture_maps(model, names):
        family.run_features(model, image)
        return plain_maps(names)


def student_maps(model: ExtendedDetector, plain: PlainMaps) -> tuple[list[Tensor], Tensor, list[Tensor]]:
    """Return the inputs of the head for the level, the upsampled coarsest map, and the early maps of the enlarged image."""
    family = model.level_family
    early = family.early_maps(model, enlarge(plain.image))
    height, width = spatial_size(early[-1])
    size = ((height + 1) // 2, (width + 1) // 2)
    coarse = model.added_level(plain.coarse, [early[-1], *plain.guides], size)
    return family.finest_maps(model, early, coarse), coarse, early


def _new_instance(original_class: type[nn.Module], family: LevelFamily) -> nn.Module:
    extended = extend_class(original_class, family.mixin)
    return extended.__new__(extended)
