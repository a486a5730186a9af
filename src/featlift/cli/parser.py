"""Assignments of options → arguments of a command's function; jsonargparse converts and checks the values.

Presets become the defaults of the options.
"""

import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, fields, is_dataclass, replace
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser

from featlift.cli.arguments import Assignments, UsageError, data_root, read_assignments
from featlift.cli.option_table import OptionTable, load_option_table, with_hyphens
from featlift.runs.presets import choose_preset


def parse_function_args(function: Callable[..., Any], table: OptionTable, argv: Sequence[str]) -> dict[str, Any]:
    """Return the keyword arguments of ``function`` given by ``argv``; the fields of a dataclass parameter are options of their own.

    Args:
        function: Function of a command.
        table: Its options.
        argv: Words after the command.

    Raises:
        UsageError: If the words are no valid call.
    """
    parser, groups = _new_parser(), _list_dataclasses(function)
    parser.add_function_arguments(function, as_group=False, as_positional=False, skip=set(groups))
    for config_class in groups.values():
        parser.add_class_arguments(config_class, None, as_group=False)
    values = _parse(parser, read_assignments(argv, table), table)
    for name, config_class in groups.items():
        values[name] = config_class(**{field.name: values.pop(field.name) for field in fields(config_class)})
    return values


def _list_dataclasses(function: Callable[..., Any]) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.annotation for p in parameters if is_dataclass(p.annotation)}


def parse_training_args(paper: str, argv: Sequence[str]) -> dict[str, Any]:
    """Return the arguments of :func:`featlift.commands.train.train`, and the name of the preset as "preset".

    The settings are those of the preset, changed by YAML files and options. Without ``--preset`` it is "quick" on the built-in
    scenes, and "finetune" on the user's own images. If ``--model.detector`` changes the kind of detector, the preset's options of
    the old kind are dropped.

    Raises:
        UsageError: If the words are no valid call.
        ValueError: If the settings contradict each other.
    """
    from featlift.papers.registry import PAPERS
    from featlift.runs.options import RunOptions

    table = load_option_table(f"train {paper}")
    values = dict(read_assignments(argv, table).values)
    settings_class = PAPERS[paper].settings
    preset = values.pop("preset", "") or choose_preset(data_root(values), table.presets)
    base = _change_detector(PAPERS[paper].preset(preset), values.get("model.detector", ""))
    parser = _new_parser()
    skipped: set[str | int] = set() if table.find("stop_after") else {"stop_after"}
    parser.add_class_arguments(RunOptions, None, as_group=False, skip=skipped)
    parser.add_class_arguments(settings_class, None)
    parser.set_defaults({"run": f"runs/{paper}", **asdict(base)})
    parsed = _parse(parser, Assignments(values), table)
    names = {field.name for field in fields(RunOptions)}
    options = RunOptions(**{name: parsed.pop(name) for name in list(parsed) if name in names})
    return {"paper": paper, "settings": settings_class(**parsed), "run_options": options, "preset": preset}


def _change_detector(settings: Any, detector: str) -> Any:
    """Return ``settings`` with another kind of detector, without the preset's options of the old kind."""
    from featlift.detectors.config import replace_detector

    return replace(settings, model=replace_detector(settings.model, detector)) if detector else settings


def _new_parser() -> ArgumentParser:
    return ArgumentParser(prog="featlift", exit_on_error=False, allow_abbrev=False, add_help=False)


def _parse(parser: ArgumentParser, assignments: Assignments, table: OptionTable) -> dict[str, Any]:
    try:
        return dict(vars(parser.instantiate(parser.parse_args(_sort_words(assignments.as_words())))))
    except ArgumentError as error:
        raise UsageError(_format_error(str(error), table)) from error


def _sort_words(words: Iterable[str]) -> list[str]:
    """Return a dictionary's option before its keys, which change single values of it."""
    return sorted(words, key=lambda word: word.partition("=")[0].count("."))


def _format_error(message: str, table: OptionTable) -> str:
    """Return jsonargparse's message with the option as it is typed and the type as it is called."""
    message = re.sub(r'Parser key "([\w.]+)":\s*', lambda m: f"--{m[1].replace('_', '-')}: ", message)
    message = re.sub(r"an? <class '(\w+)'>", r"\1", message).replace("\n", " ")
    return with_hyphens(message.replace("argument ", "", 1) if message.startswith("argument ") else message, table)
