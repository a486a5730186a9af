"""A part in a file of its own: class, arguments and tensors (safetensors), enough to build it again."""

import importlib
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from featlift.checkpoints.states import compare, fill, own_state
from featlift.checkpoints.tensors import read_tensors, write_tensors

HOME = "featlift"


def save(module: nn.Module, path: str | Path) -> Path:
    """Write ``module`` to ``path`` (``….safetensors``): its tensors, and in the metadata its class and arguments.

    Parts among the arguments (a pyramid's interpolators) are described in the same way. Before writing, the
    description is tried: what is built from it must have the tensors of ``module``.

    Raises:
        TypeError: if the module, or a part it was given, did not remember its arguments
            (see `featlift.checkpoints.init_args.remember`).
        ValueError: if it was changed after it was built, so that its arguments no longer describe it.
    """
    state, words = own_state(module), describe(module)
    with torch.random.fork_rng(devices=[]):
        fit = compare(state, rebuild(words))
    if not fit.complete:
        raise ValueError(
            f"This {type(module).__name__} is not what its arguments build; was a part of it replaced afterwards? {fit}\n"
            "Use featlift.save_delta for a detector that was upgraded."
        )
    metadata = {"class": words["class"], "arguments": json.dumps(words["arguments"]), "featlift": version("featlift")}
    return write_tensors(path, state, metadata)


def load(path: str | Path) -> nn.Module:
    """The part that `save` wrote to ``path``, on the CPU and in training mode, as one that was just built.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not a file of `save`, names a class that is not ours, or its tensors do not fit.
    """
    tensors, words = read_tensors(path)
    if not {"class", "arguments"} <= words.keys():
        raise ValueError(
            f"{path} does not say which part it is: it was not written by featlift.checkpoints.save. "
            "Build the module yourself and use load_state(module, path)."
        )
    module = rebuild({"class": words["class"], "arguments": json.loads(words["arguments"])})
    fill(module, tensors, path)
    return module


def describe(module: nn.Module) -> dict[str, Any]:
    """``{"class": "featlift.interpolators.afi:AFI", "arguments": {…}}`` of a part, in JSON's words.

    Raises:
        TypeError: if the part did not remember its arguments, or one of them cannot be said in JSON.
    """
    kind = type(module)
    arguments = getattr(module, "arguments", None)
    if not isinstance(arguments, Mapping) or not _ours(kind.__module__):
        raise TypeError(
            f"{kind.__module__}.{kind.__qualname__} cannot be saved as a part: only classes of {HOME} that are decorated "
            "with @remember() can be built again. Save its state_dict() with safetensors instead."
        )
    words = {name: _said(value, f"{kind.__qualname__}({name}=…)") for name, value in arguments.items()}
    return {"class": f"{kind.__module__}:{kind.__qualname__}", "arguments": words}


def _said(value: Any, where: str) -> Any:
    if isinstance(value, nn.Module):
        return describe(value)
    if is_dataclass(value) and not isinstance(value, type) and _ours(type(value).__module__):
        inside = {field.name: _said(getattr(value, field.name), where) for field in fields(value)}
        return {"class": f"{type(value).__module__}:{type(value).__qualname__}", "arguments": inside}
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _said(item, where) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_said(item, where) for item in value]
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(
        f"{where} is a {type(value).__name__}, which a checkpoint cannot hold; give numbers, names or parts."
    )


def rebuild(words: Mapping[str, Any]) -> Any:
    """The part that `describe` described, with new tensors.

    Raises:
        ValueError: if the class is not one of ours, or does not take these arguments.
    """
    kind = _kind(words["class"])
    arguments = {name: _meant(value) for name, value in words["arguments"].items()}
    try:
        return kind(**arguments)
    except TypeError as error:
        raise ValueError(
            f"{words['class']} does not take the arguments of this checkpoint ({', '.join(arguments) or 'none'}): {error}. "
            "It may be of another version of featlift."
        ) from error


def _meant(value: Any) -> Any:
    if isinstance(value, list):
        return [_meant(item) for item in value]
    if isinstance(value, Mapping):
        if set(value) == {"class", "arguments"}:
            return rebuild(value)
        return {name: _meant(item) for name, item in value.items()}
    return value


def _kind(name: str) -> type:
    """The class behind ``"featlift.…:Class"``: only modules that remember their arguments and dataclasses, only
    ours.
    """
    home, _, title = name.partition(":")
    if not _ours(home):
        raise ValueError(f"The checkpoint asks for {name}; only parts of {HOME} are built from files.")
    try:
        kind = getattr(importlib.import_module(home), title)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"The checkpoint asks for {name}, which this version of {HOME} does not have.") from error
    if not (isinstance(kind, type) and _ours(kind.__module__) and (issubclass(kind, nn.Module) or is_dataclass(kind))):
        raise ValueError(f"The checkpoint asks for {name}, which is not a part.")
    return kind


def _ours(module: str) -> bool:
    return module.startswith(f"{HOME}.")
