"""Self-contained module files: class, constructor arguments and tensors (safetensors)."""

import importlib
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from featlift.checkpoints.damage import explain_damage
from featlift.checkpoints.states import compare_states, copy_matching, unique_state_dict
from featlift.checkpoints.tensors import read_tensors, write_tensors

PACKAGE = "featlift"


def save(module: nn.Module, path: str | Path) -> Path:
    """Write ``module`` to ``path`` (``….safetensors``): its tensors, and as metadata its class and arguments.

    Modules among the arguments (a pyramid's interpolators) are described recursively. Before writing, the module is rebuilt from its
    description to verify that the tensors match.

    Raises:
        TypeError: If the class of the module or of a module argument is not decorated with
            `featlift.checkpoints.init_args.store_init_args`.
        ValueError: If the module was modified after construction, so that its arguments no longer describe it.
    """
    state, description = unique_state_dict(module), describe_module(module)
    with torch.random.fork_rng(devices=[]):
        report = compare_states(state, rebuild_module(description))
    if not report.is_complete:
        raise ValueError(
            f"This {type(module).__name__} differs from a module built with its arguments; was a submodule replaced? {report}\n"
            "Use featlift.save_delta for an upgraded detector."
        )
    metadata = {
        "class": description["class"],
        "arguments": json.dumps(description["arguments"]),
        "featlift": version("featlift"),
    }
    return write_tensors(path, state, metadata)


def load(path: str | Path) -> nn.Module:
    """Rebuild the module that `save` wrote to ``path``, on the CPU and in training mode.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file was not written by `save`, names a class outside of FeatLift, or its tensors do not fit.
    """
    tensors, metadata = read_tensors(path)
    if not {"class", "arguments"} <= metadata.keys():
        raise ValueError(
            f"{path} does not contain class and arguments: it was not written by featlift.checkpoints.save. "
            "Build the module yourself and use load_state_file(module, path)."
        )
    with explain_damage(path, "Use another copy of the file."):
        description = {"class": metadata["class"], "arguments": json.loads(metadata["arguments"])}
        module = _rebuild_from_file(description, path)
    copy_matching(module, tensors, path)
    return module


def _rebuild_from_file(description: Mapping[str, Any], path: str | Path) -> nn.Module:
    try:
        return rebuild_module(description)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def describe_module(module: nn.Module) -> dict[str, Any]:
    """Return the JSON description ``{"class": "featlift.interpolators.afi:AFI", "arguments": {…}}`` of a module.

    Raises:
        TypeError: If the class does not store its arguments, or an argument has no JSON form.
    """
    cls = type(module)
    init_args = getattr(module, "init_args", None)
    if not isinstance(init_args, Mapping) or not _is_featlift_module(cls.__module__):
        raise TypeError(
            f"{cls.__module__}.{cls.__qualname__} cannot be saved as a module file: only classes of {PACKAGE} decorated with "
            "@store_init_args() can be rebuilt. Save its state_dict() with safetensors instead."
        )
    arguments = {name: _to_json(value, f"{cls.__qualname__}({name}=…)") for name, value in init_args.items()}
    return {"class": f"{cls.__module__}:{cls.__qualname__}", "arguments": arguments}


def _to_json(value: Any, location: str) -> Any:
    if isinstance(value, nn.Module):
        return describe_module(value)
    if is_dataclass(value) and not isinstance(value, type) and _is_featlift_module(type(value).__module__):
        arguments = {field.name: _to_json(getattr(value, field.name), location) for field in fields(value)}
        return {"class": f"{type(value).__module__}:{type(value).__qualname__}", "arguments": arguments}
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _to_json(item, location) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_to_json(item, location) for item in value]
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(
        f"{location} is a {type(value).__name__}, which a checkpoint cannot store; use numbers, strings or FeatLift modules."
    )


def rebuild_module(description: Mapping[str, Any]) -> Any:
    """Build a module from the output of `describe_module`, with newly initialized tensors.

    Raises:
        ValueError: If the class is not part of FeatLift or does not accept the arguments.
    """
    cls = _resolve_class(description["class"])
    arguments = {name: _from_json(value) for name, value in description["arguments"].items()}
    overrides = getattr(
        cls, "init_overrides", {}
    )  # whatever the file says: nothing is downloaded, no other file opened
    arguments |= {name: value for name, value in overrides.items() if name in arguments}
    try:
        return cls(**arguments)
    except TypeError as error:
        raise ValueError(
            f"{description['class']} does not accept the arguments of this checkpoint ({', '.join(arguments) or 'none'}): {error}. "
            "The checkpoint may be of another version of featlift."
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
    """Return the class ``"featlift.…:Class"``; only modules and dataclasses of FeatLift are allowed."""
    module_name, _, class_name = name.partition(":")
    if not _is_featlift_module(module_name):
        raise ValueError(f"The checkpoint refers to {name}; only classes of {PACKAGE} are built from files.")
    try:
        cls = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"The checkpoint refers to {name}, which this version of {PACKAGE} does not have.") from error
    if not (
        isinstance(cls, type)
        and _is_featlift_module(cls.__module__)
        and (is_dataclass(cls) or (issubclass(cls, nn.Module) and hasattr(cls, "init_overrides")))
    ):
        raise ValueError(
            f"The checkpoint refers to {name}, which is not a module or dataclass of {PACKAGE} that a checkpoint can hold."
        )
    return cls


def _is_featlift_module(module: str) -> bool:
    return module.startswith(f"{PACKAGE}.")
