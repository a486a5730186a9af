"""Command-line words → assignments of options, checked against the option table without importing torch."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featlift.cli.hints import suggest_option
from featlift.cli.option_table import Option, OptionTable, with_hyphens
from featlift.registry import check_choice, look_up

FLAG_VALUES = ("true", "false", "yes", "no")
_NAMED_BY = {
    "model": "model.detector",
    "network": "network.name",
    "feature_extractor": "feature_extractor.network",
    "embedder": "embedder.encoder",
    "collection": "collection.name",
    "optimizer": "optimizer.name",
}
"""Group of options, or the last name of one → the option that a value without a YAML file was meant for."""
_OWN_COLLECTION = {"collection.name": "class-folders", "collection.train_images": "database"}


class UsageError(ValueError):
    """Words that are no valid call of a command; the command line exits with code 2."""


@dataclass(frozen=True)
class Assignments:
    """Values of options and positional arguments as text, by dotted name with underscores, in the order given."""

    values: dict[str, str]

    def as_words(self) -> list[str]:
        """Return ``--name=value`` for each."""
        return [f"--{name}={value}" for name, value in self.values.items()]


def read_assignments(argv: Sequence[str], table: OptionTable) -> Assignments:
    """Read the words of a command.

    ``--data FOLDER`` is short for ``--data.root FOLDER``, ``--skip-broken`` for ``--data.skip-broken``; lists are written with
    commas (``--data.min-size 640,800``); switches need no value; ``--config FILE`` is replaced by the options in the YAML file.

    Raises:
        UsageError: If an option does not exist, lacks its value or is none of its choices, if a YAML file does not exist, or if
            the positional arguments do not fit.
    """
    values: dict[str, str] = {}
    words: list[str] = []
    for option, value in _split_words(list(argv), table):
        if option:
            values |= dict(_expand(option, value, table))
        else:
            words.append(value)
    values = _assign_positionals(words, table, values) | values
    _check_choices(values, table)
    return Assignments(values)


def data_root(values: Mapping[str, str]) -> str:
    """Return the images that assignments name: a folder, or "" or "scenes" for the built-in ones."""
    if values.get("collection.name", "synthetic") != "synthetic":
        return values.get("collection.image_folder", "")
    return values.get("data.root", "")


def _check_choices(values: dict[str, str], table: OptionTable) -> None:
    """Check the preset and all values of options with few choices."""
    try:
        if values.get("preset") and table.presets:
            look_up(table.presets, values["preset"], "preset")
        for option in (option for option in table.options if option.choices and option.name in values):
            text = values[option.name]
            for word in re.findall(r"[^][\s\",]+", text) if option.is_list else [text]:
                check_choice(word, option.choices, option.what)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _split_words(words: list[str], table: OptionTable) -> Iterator[tuple[str, str]]:
    """Yield pairs of option and value; the option of a positional argument is ""."""
    while words:
        word = words.pop(0)
        if not word.startswith("--") or word == "--":
            yield "", word
            continue
        name, equals, value = word[2:].partition("=")
        option = _find(name, table)
        if not equals:
            value = _take_value(name, option, words)
        yield name.replace("-", "_") if option is None or not option.is_dict else _dict_name(name, option), value


def _find(name: str, table: OptionTable) -> Option | None:
    """Return the option ``name``; None for a short form or the name of a group.

    Raises:
        UsageError: If there is none.
    """
    option = table.find(name)
    if option is None and not table.has_group(name) and name.replace("-", "_") not in _short_forms(table):
        raise UsageError(f"there is no option --{name}.{suggest_option(name, table)}")
    return option


def _take_value(name: str, option: Option | None, words: list[str]) -> str:
    is_switch = option.type == "bool" if option else name.replace("-", "_") == "skip_broken"
    if is_switch:
        return words.pop(0) if words and words[0].lower() in FLAG_VALUES else "true"
    if not words or (words[0].startswith("--") and len(words[0]) > 2):
        raise UsageError(f"--{name} needs a value.")
    return words.pop(0)


def _dict_name(name: str, option: Option) -> str:
    """Return the dotted name; keys of ``…_options`` are names of Python arguments, other keys are kept as they are."""
    key = name[len(option.name) :]
    return option.name + (key.replace("-", "_") if option.name.endswith("options") else key)


def _short_forms(table: OptionTable) -> tuple[str, ...]:
    names = [option.name for option in table.options]
    data = "data.root" in names or "collection.image_folder" in names
    return ("data",) * data + ("skip_broken",) * ("data.skip_broken" in names)


def _expand(name: str, value: str, table: OptionTable) -> Iterator[tuple[str, str]]:
    """Yield the assignments that one option stands for."""
    option = table.find(name)
    if name == "config" and option:
        if not _is_mapping_file(value):
            raise UsageError(f"--config takes a YAML file; there is no file {value}.")
        yield from _flatten(_read_mapping(value), "", table)
    elif option:
        yield name, _format_value(value, option)
    elif name == "skip_broken":
        yield "data.skip_broken", value
    elif name == "data" and not _is_mapping(value):
        yield from _expand_data(value, table)
    elif _is_mapping_file(value):
        yield from _flatten(_read_mapping(value), f"{name}.", table)
    else:
        raise UsageError(_format_group_error(name, value, table))


def _is_mapping_file(value: str) -> bool:
    return value.startswith("{") or Path(value).is_file()


def _format_group_error(name: str, value: str, table: OptionTable) -> str:
    """Return the error for a ``value`` of the group ``name`` that is no YAML file: the option that was probably meant."""
    flag, last = f"--{name.replace('_', '-')}", name.rpartition(".")[2]
    named = _NAMED_BY.get(last, "").replace(last, name, 1)
    if value.endswith((".yaml", ".yml")):
        return f"{flag} takes a YAML file; there is no file {value}."
    if option := table.find(named):
        return f"{flag} takes a YAML file; did you mean {option.flag} {value}?"
    flags = [option.flag for option in table.options if option.name.startswith(f"{name}.")]
    return f"{flag} takes a YAML file, or one of its options: {', '.join(flags[:4])}{', …' * (len(flags) > 4)}."


def _expand_data(value: str, table: OptionTable) -> Iterator[tuple[str, str]]:
    if table.find("data.root"):
        yield "data.root", value
        return
    yield "collection.image_folder", value
    yield from _OWN_COLLECTION.items()


def _format_value(value: str, option: Option) -> str:
    """Return ``value`` in the parser's notation; the help writes "none" for null and for the empty list, "yes" for true."""
    if value.lower() == "none" and option.type.endswith("None"):
        return "null"
    if option.type == "bool":
        return {"yes": "true", "no": "false"}.get(value.lower(), value)
    if not option.is_list or value.startswith("[") or value == "null":
        return value
    return "[]" if value.lower() == "none" else f"[{value}]"


def _is_mapping(value: str) -> bool:
    return value.startswith("{") or value.endswith((".yaml", ".yml"))


def _read_mapping(value: str) -> dict[str, Any]:
    import yaml

    text = value if value.startswith("{") else Path(value).read_text(encoding="utf-8")
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"{value} is not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise UsageError(f"{value} has no options; write them as 'name: value', one a line.")
    return content


def _flatten(content: dict[str, Any], prefix: str, table: OptionTable) -> Iterator[tuple[str, str]]:
    """Yield the assignments of the nested options ``content`` of a YAML file."""
    for key, value in content.items():
        name = f"{prefix}{key}".replace("-", "_")
        option = _find(name, table)
        if isinstance(value, dict) and option is None:
            yield from _flatten(value, f"{name}.", table)
        else:
            text = value if isinstance(value, str) else json.dumps(value)
            yield from _expand(name, text, table)


def _assign_positionals(words: list[str], table: OptionTable, values: dict[str, str]) -> dict[str, str]:
    """Assign ``words`` to the positional arguments in order; a list takes all that remain.

    Raises:
        UsageError: If there are too few or too many.
    """
    assigned: dict[str, str] = {}
    for option in table.positionals():
        if option.name in values:
            continue
        if option.is_list and words:
            assigned[option.name], words = json.dumps(words), []
        elif words:
            assigned[option.name], words = words[0], words[1:]
        elif option.required:
            raise UsageError(f"{option.flag} is missing: {with_hyphens(option.help, table)}")
    if words:
        hint = suggest_option(words[0].partition("=")[0], table) if "=" in words[0] else ""
        raise UsageError(f"'{words[0]}' is one argument too many.{hint}")
    return assigned
