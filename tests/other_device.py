"""A PyTorch device that is not the CPU, computed on the CPU: mixing its tensors with CPU tensors raises, as on a GPU.

Within ``with other_device():`` the device "other" can be named wherever PyTorch takes one. A tensor on it (`OtherTensor`) wraps a CPU
tensor; every operator is run on the wrapped tensors after a check that all operands with dimensions are on the same device. Only
copies may cross, and indices, as on CUDA. `CROSSINGS` counts reads of a value by the host (``.item()``, ``float(tensor)``,
``bool(tensor)``, ``nonzero`` and masks as indices), where a GPU would have to be waited for.
"""

import contextlib
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

NAME = "other"
COPIES = ("copy_", "_to_copy")
INDEXING = ("index", "index_put", "index_put_", "_index_put_impl_")
SYNCHRONIZING = ("_local_scalar_dense", "nonzero", "masked_select", "unique_dim", "_unique2", "is_nonzero")
CROSSINGS: Counter[str] = Counter()
"""Line of featlift → number of times that the host read a value of the device there."""


class _Stream:
    """A stream that is always finished."""

    def synchronize(self) -> None:
        pass

    def wait_stream(self, stream: Any) -> None:
        pass


class _Backend(_DummyBackendModule):
    Stream = _Stream

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]

    def current_stream(self, device: Any = None) -> _Stream:
        return _Stream()

    def stream(self, stream: Any) -> contextlib.AbstractContextManager:
        return contextlib.nullcontext()


class OtherTensor(torch.Tensor):
    """A tensor on the device "other"; ``cpu_tensor`` holds its values."""

    cpu_tensor: torch.Tensor

    @staticmethod
    def __new__(cls, cpu_tensor: torch.Tensor):
        return torch.Tensor._make_wrapper_subclass(
            cls,
            cpu_tensor.size(),
            strides=cpu_tensor.stride(),
            storage_offset=cpu_tensor.storage_offset(),
            dtype=cpu_tensor.dtype,
            device=torch.device(NAME, 0),
        )

    def __init__(self, cpu_tensor: torch.Tensor):
        self.cpu_tensor = cpu_tensor

    def tolist(self) -> Any:
        _count_crossing()
        return self.cpu_tensor.tolist()

    def __repr__(self) -> str:  # type: ignore[override]
        return f"OtherTensor({self.cpu_tensor})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run_operator(func, args, dict(kwargs or {}))


def _run_operator(func: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    """Run an operator on the wrapped tensors; the result is on "other" if an operand is, or if ``device`` says so."""
    name = func.overloadpacket.__name__
    operands = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    is_other = any(isinstance(operand, OtherTensor) for operand in operands)
    if is_other and name not in COPIES + INDEXING:
        _check_one_device(func, operands)
    if is_other and _reads_value(name, args):
        _count_crossing()
    if kwargs.get("device") is not None:
        is_other = torch.device(kwargs["device"]).type == NAME
        kwargs["device"] = "cpu"
    kwargs.update({"pin_memory": False} if kwargs.get("pin_memory") else {})
    cpu_args, cpu_kwargs = tree_map_only(OtherTensor, lambda tensor: tensor.cpu_tensor, (args, kwargs))
    result = func(*cpu_args, **cpu_kwargs)
    returns = func._schema.returns
    if func._schema.is_mutable and len(returns) == 1 and returns[0].alias_info is not None:
        return args[0]
    return tree_map_only(torch.Tensor, OtherTensor, result) if is_other and name != "_local_scalar_dense" else result


def _check_one_device(func: Any, operands: list[torch.Tensor]) -> None:
    on_cpu = [operand for operand in operands if operand.dim() and not isinstance(operand, OtherTensor)]
    if on_cpu:
        shapes = [tuple(operand.shape) for operand in on_cpu]
        raise RuntimeError(f"{func}: tensors on {NAME}:0 and on the CPU are mixed: {shapes}")


def _reads_value(name: str, args: tuple) -> bool:
    masks = name in INDEXING and any(leaf.dtype in (torch.bool, torch.uint8) for leaf in tree_leaves(args[1]) if leaf is not None)
    return name in SYNCHRONIZING or masks


def _count_crossing() -> None:
    """Count the line of featlift that reads the value; reads inside of torchvision's detectors are theirs."""
    for frame in reversed(traceback.extract_stack()):
        if "/torchvision/" in frame.filename:
            return
        if "/featlift/" in frame.filename:
            CROSSINGS[f"{frame.filename.partition('/featlift/')[2]}: {frame.line}"] += 1
            return


class _Creation(TorchFunctionMode):
    """``torch.tensor`` and its like fill memory below every dispatch mode: here the tensor is made on the CPU and then moved."""

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.tensor, torch.as_tensor, torch.asarray) and kwargs.get("device") is not None:
            device = torch.device(kwargs["device"])
            if device.type == NAME:
                return func(*args, **kwargs | {"device": "cpu"}).to(device)
        if func is torch.Tensor.new_tensor and isinstance(args[0], OtherTensor):
            device = kwargs.pop("device", None) or NAME
            return torch.tensor(*args[1:], **{"dtype": args[0].dtype} | kwargs).to(device)
        if func is torch.Tensor.untyped_storage and isinstance(args[0], OtherTensor):
            return args[0].cpu_tensor.untyped_storage()
        return func(*args, **kwargs)


class _Dispatch(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _run_operator(func, args, dict(kwargs or {}))


def _copy_from(source: torch.Tensor, target: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
    values = [tensor.cpu_tensor if isinstance(tensor, OtherTensor) else tensor for tensor in (source, target)]
    values[1].copy_(values[0])
    return target


def _register() -> torch.library.Library:
    _setup_privateuseone_for_python_backend(NAME, backend_module=_Backend())
    library = torch.library.Library("aten", "IMPL")
    library.impl("_copy_from", _copy_from, "PrivateUse1")
    for name in ("empty_strided", "empty.memory_format"):
        create = getattr(torch, name.partition(".")[0])
        library.impl(
            name,
            lambda *sizes, dtype=None, create=create, **_: OtherTensor(create(*sizes, dtype=dtype)),
            "PrivateUse1",
        )
    return library


LIBRARY = _register()


@contextlib.contextmanager
def other_device() -> Iterator[None]:
    """Make the device "other" available. ``torch.inference_mode`` is ``torch.no_grad`` inside: wrappers cannot be inference tensors."""
    inference_mode, swap = torch._C._InferenceMode, torch.__future__.get_swap_module_params_on_conversion()
    torch._C._InferenceMode = lambda mode: torch.no_grad() if mode else contextlib.nullcontext()  # type: ignore[assignment]
    torch.__future__.set_swap_module_params_on_conversion(True)  # module.to() keeps parameters, as on CUDA
    try:
        with _Creation(), _Dispatch():
            yield
    finally:
        torch._C._InferenceMode = inference_mode  # type: ignore[misc]
        torch.__future__.set_swap_module_params_on_conversion(swap)
