"""Rendered scenes in memory: rendering a scene takes about as long as training a small detector on it for one step."""

from collections import OrderedDict
from collections.abc import Callable, Hashable

import numpy as np
from numpy.typing import NDArray

Scene = tuple[NDArray[np.uint8], NDArray[np.int32], list[int]]
"""Pixels ``[H, W, 3]``, instance map ``[H, W]`` and the labels of the instances."""


class SceneCache:
    """The scenes that were used last, as many as fit into ``max_bytes``; the others are rendered again.

    Args:
        max_bytes: Maximum size of the stored arrays.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes, self.num_bytes = max_bytes, 0
        self._scenes: OrderedDict[Hashable, tuple[NDArray[np.uint8], NDArray[np.unsignedinteger], list[int]]] = (
            OrderedDict()
        )

    def get(self, key: Hashable, render: Callable[[], Scene]) -> Scene:
        """Return a copy of the scene of ``key``, which ``render()`` draws if it is not stored."""
        if key not in self._scenes:
            self._store(key, render())
        self._scenes.move_to_end(key)
        pixels, instance_map, labels = self._scenes[key]
        scene = pixels.copy(), instance_map.astype(np.int32), list(labels)
        self._remove_oldest()
        return scene

    def _store(self, key: Hashable, scene: Scene) -> None:
        pixels, instance_map, labels = scene
        compact = instance_map.astype(np.min_scalar_type(len(labels)))
        self._scenes[key] = pixels, compact, labels
        self.num_bytes += pixels.nbytes + compact.nbytes

    def _remove_oldest(self) -> None:
        while self.num_bytes > self.max_bytes:
            _, (pixels, instance_map, _) = self._scenes.popitem(last=False)
            self.num_bytes -= pixels.nbytes + instance_map.nbytes


RENDERED_SCENES = SceneCache(256 * 2**20)
"""Scenes of this process: about 2,600 of 160 px."""
