"""Follow tensors through one forward pass: which depend on the inputs, passed learned layers, were pooled, and where marked tensors go.

Tags belong to storages, so views and in-place operations are covered. Operations are seen below autograd, whether Python or C++ calls them.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

ADAPTIVE_POOLING = ("aten::_adaptive_avg_pool2d", "aten::adaptive_avg_pool2d", "aten::adaptive_max_pool2d")


@dataclass(frozen=True)
class DataflowTag:
    """What is known of a tensor.

    Attributes:
        is_input: Depends on the inputs of the network.
        is_parameter: Computed from parameters only.
        is_learned: Result of an operation on inputs and parameters, directly or indirectly.
        is_pooled: Map whose number of cells does not depend on the size of the inputs.
        marks: Bit set of the marks (:meth:`DataflowMode.mark`) of the tensors that it depends on.
    """

    is_input: bool = False
    is_parameter: bool = False
    is_learned: bool = False
    is_pooled: bool = False
    marks: int = 0


class DataflowMode(TorchDispatchMode):
    """Tags every tensor that is computed while the mode is active.

    Args:
        parameters: Parameters of the network.
        inputs: Its inputs.

    Attributes:
        marks_before_learned: Bit set of the marks that reached an operation with parameters.
        marks_merged: Bit set of the marks that were combined with another map of the same size.
    """

    def __init__(self, parameters: Iterable[Tensor], inputs: Iterable[Tensor]):
        super().__init__()
        self.tags: dict[int, DataflowTag] = {}
        self.marks_before_learned, self.marks_merged = 0, 0
        for x in inputs:
            self._set(x, DataflowTag(is_input=True))
        for parameter in parameters:
            self._set(parameter, DataflowTag(is_parameter=True))

    def tag(self, x: Tensor) -> DataflowTag:
        """Return the tag of ``x``."""
        return self.tags.get(_storage_key(x), DataflowTag())

    def mark(self, x: Tensor, number: int) -> None:
        """Set mark ``number`` on ``x``."""
        tag = self.tag(x)
        self._set(x, replace(tag, marks=tag.marks | 1 << number))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        outputs = func(*args, **(kwargs or {}))
        operands = list(iterate_tensors((args, kwargs)))
        tags = [self.tag(x) for x in operands]
        results = list(iterate_tensors(outputs))
        if (
            func.name() == "aten::lift_fresh"
        ):  # new storage of Python numbers; its address may have belonged to another tensor
            tags = []
        combined = self._combine(operands, tags)
        for x in results:
            is_pooled = x.dim() == 4 and (func.name() in ADAPTIVE_POOLING or _stays_pooled(x, operands, tags))
            if not self.tag(x).is_parameter or combined.is_input:
                self._set(x, replace(combined, is_pooled=is_pooled))
        return outputs

    def _combine(self, operands: list[Tensor], tags: list[DataflowTag]) -> DataflowTag:
        is_input = any(tag.is_input for tag in tags)
        has_parameter = any(tag.is_parameter for tag in tags)
        marks = 0
        for tag in tags:
            marks |= tag.marks
        if has_parameter and is_input:
            self.marks_before_learned |= marks
        if marks:
            self.marks_merged |= _merged_marks(operands, tags)
        is_learned = (has_parameter and is_input) or any(tag.is_learned for tag in tags)
        return DataflowTag(is_input, has_parameter and not is_input, is_learned, marks=marks)

    def _set(self, x: Tensor, tag: DataflowTag) -> None:
        if key := _storage_key(x):
            self.tags[key] = tag


def iterate_tensors(values: Any) -> Iterator[Tensor]:
    """Yield the tensors in nested containers, and in the attributes of other objects such as DETR's ``NestedTensor``."""
    for leaf in tree_leaves(values):
        if isinstance(leaf, Tensor):
            yield leaf
        elif hasattr(leaf, "__dict__") and not isinstance(leaf, type | torch.nn.Module) and not callable(leaf):
            yield from (x for x in tree_leaves(dict(vars(leaf))) if isinstance(x, Tensor))


def _merged_marks(operands: list[Tensor], tags: list[DataflowTag]) -> int:
    """Return the marks of some, but not all of the maps of one size that an operation combines."""
    union, common, sizes = 0, -1, []
    for x, tag in zip(operands, tags, strict=True):
        if x.dim() == 4 and tag.is_learned:
            union, common = union | tag.marks, common & tag.marks
            sizes.append(x.shape[-2:])
    return union & ~common if len(sizes) > 1 and len(set(sizes)) == 1 else 0


def _stays_pooled(x: Tensor, operands: list[Tensor], tags: list[DataflowTag]) -> bool:
    """Return whether all input-dependent maps of the size of ``x``, and at least one, are pooled."""
    same_size = [
        tag.is_pooled
        for y, tag in zip(operands, tags, strict=True)
        if y.dim() == 4 and tag.is_input and y.shape[-2:] == x.shape[-2:]
    ]
    return bool(same_size) and all(same_size)


def _storage_key(x: Tensor) -> int:
    """Return the address of the storage; 0 if ``x`` has no data, as on the meta device."""
    return 0 if x.is_sparse or x.layout is not torch.strided else x.untyped_storage().data_ptr()
