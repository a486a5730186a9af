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

from featlift.checkpoints.states import compare_states, copy_matching, unique_state_dict
from featlift.checkpoints.tensors import read_tensors, write_tensors

PACKAGE = "featlift"


def save(module: nn.Module, path: str | Path) -> Path:
    """Write ``module`` to ``path`` (``….safetensors``): its tensors, and in the metadata its class and arguments.

    Parts among the arguments (a pyramid's interpolators) are described in the same way. Before writing, the
    description is tried: what is built from it must have the tensors of ``module``.

    Raises:
        TypeError: if the module, or a part it was given, did not remember its arguments
            (see `featlift.checkpoints.init_args.store_init_args`).
        ValueError: if it was changed after it was built, so that its arguments no longer describe it.
    """
    state, words = unique_state_dict(module), describe_module(module)
    with torch.random.fork_rng(devices=[]):
        fit = compare_states(state, rebuild_module(words))
    if not fit.is_complete:
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
    module = rebuild_module({"class": words["class"], "arguments": json.loads(words["arguments"])})
    copy_matching(module, tensors, path)
    return module


def describe_module(module: nn.Module) -> dict[str, Any]:
    """``{"class": "featlift.interpolators.afi:AFI", "arguments": {…}}`` of a part, in JSON's words.

    Raises:
        TypeError: if the part did not remember its arguments, or one of them cannot be said in JSON.
    """
    kind = type(module)
    arguments = getattr(module, "arguments", None)
    if not isinstance(arguments, Mapping) or not _is_featlift_module(kind.__module__):
        raise TypeError(
            f"{kind.__module__}.{kind.__qualname__} cannot be saved as a part: only classes of {PACKAGE} that are decorated "
            "with @remember() can be built again. Save its state_dict() with safetensors instead."
        )
    words = {name: _to_json(value, f"{kind.__qualname__}({name}=…)") for name, value in arguments.items()}
    return {"class": f"{kind.__module__}:{kind.__qualname__}", "arguments": words}


def _to_json(value: Any, location: str) -> Any:
    if isinstance(value, nn.Module):
        return describe_module(value)
    if is_dataclass(value) and not isinstance(value, type) and _is_featlift_module(type(value).__module__):
        inside = {field.name: _to_json(getattr(value, field.name), location) for field in fields(value)}
        return {"class": f"{type(value).__module__}:{type(value).__qualname__}", "arguments": inside}
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _to_json(item, location) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_to_json(item, location) for item in value]
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(
        f"{location} is a {type(value).__name__}, which a checkpoint cannot hold; give numbers, names or parts."
    )


def rebuild_module(description: Mapping[str, Any]) -> Any:
    """The part that `describe` described, with new tensors.

    Raises:
        ValueError: if the class is not one of ours, or does not take these arguments.
    """
    kind = _resolve_class(description["class"])
    arguments = {name: _from_json(value) for name, value in description["arguments"].items()}
    try:
        return kind(**arguments)
    except TypeError as error:
        raise ValueError(
            f"{description['class']} does not take the arguments of this checkpoint ({', '.join(arguments) or 'none'}): {error}. "
            "It may be of another version of featlift."
        ) from error


def _from_json(value: Any) -> Any:
    if isinstance(value, list):
        return [_from_json(item) for item in value]
    if isinstance(value, Mapping):
        if set(value) == {"class", "arguments"}:
            return rebuild_module(value)
        return {name: _from_json(item) for name, item in value.items()}
    return value


def _resolve_class(name: str) -> type:
    """The class behind ``"featlift.…:Class"``: only modules that remember their arguments and dataclasses, only
    ours.
    """
    home, _, title = name.partition(":")
    if not _is_featlift_module(home):
        raise ValueError(f"The checkpoint asks for {name}; only parts of {PACKAGE} are built from files.")
    try:
        kind = getattr(importlib.import_module(home), title)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"The checkpoint asks for {name}, which this version of {PACKAGE} does not have.") from error
    if not (
        isinstance(kind, type)
        and _is_featlift_module(kind.__module__)
        and (issubclass(kind, nn.Module) or is_dataclass(kind))
    ):
        raise ValueError(f"The checkpoint asks for {name}, which is not a part.")
    return kind


def _is_featlift_module(module: str) -> bool:
    return module.startswith(f"{PACKAGE}.")
