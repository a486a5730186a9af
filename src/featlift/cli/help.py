"""Help of a command, from the option table alone."""

import re
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from featlift.cli.groups import HEADINGS
from featlift.cli.option_table import Option, OptionTable, with_hyphens
from featlift.cli.verbs import Command
from featlift.runs.presets import PRESETS, choose_preset

WIDTH = 100
COLUMN = 36
SHORT_TEXT = 110
"""Characters of an option's text in the short help; of a longer text only the first sentence is printed."""
_TYPE_NAMES = {"int": "INT", "float": "NUMBER", "str": "TEXT", "Path": "FOLDER", "bool": "", "Any": "VALUE"}
_VALUE_NAMES = {
    "data.root": "FOLDER",
    "image_folder": "FOLDER",
    "preset": "NAME",
    "config": "FILE",
    "device": "DEVICE",
    "out": "PATH",
    "teacher_from": "RUN",
    "teachers_from": "RUN,…",
    "interpolator_from": "RUN",
    "detector_from": "RUN",
    "init_from": "RUN",
}
"""Option, or its last name → what stands for its value, where the type says too little."""
_SHORT_FORMS = {
    "collection.name": (
        "--data FOLDER",
        "Short for --collection.name class-folders --collection.image-folder FOLDER --collection.train-images database.",
    )
}
"""Option → the short form that is printed before it, and its help."""


def format_help(command: Command, table: OptionTable, preset: str = "", data_root: str = "", full: bool = False) -> str:
    """Return the help of ``command``.

    Args:
        command: The command, for its summary and example.
        table: Its options.
        preset: Preset whose defaults are printed; "" chooses it as a training would.
        data_root: The user's ``--data``, by which the preset is chosen.
        full: List all options, not only the usual ones.
    """
    preset = preset or (choose_preset(data_root, table.presets) if table.presets else "")
    full = full or not table.presets
    lines = [
        f"usage: {_format_usage(table)}",
        "",
        *textwrap.wrap(_format_sentence(command.summary, table), WIDTH),
        "",
        f"example: {command.example}",
        *_format_presets(table, preset),
        *_format_options(table, preset, full),
        "",
        _format_footer(table, full),
    ]
    return "\n".join(line.rstrip() for line in lines)


def _format_sentence(summary: str, table: OptionTable) -> str:
    return f"Train {summary}." if table.presets else f"{summary[0].upper()}{summary[1:]}."


def _format_usage(table: OptionTable) -> str:
    words = [f"featlift {table.command}", *map(_format_positional, table.positionals())]
    return (
        " ".join([*words, "[--data FOLDER] [--run FOLDER] [--preset NAME]"] if table.presets else words) + " [OPTIONS]"
    )


def _format_positional(option: Option) -> str:
    name = option.flag + " …" * option.is_list
    return name if option.required else f"[{name}]"


def _format_presets(table: OptionTable, preset: str) -> Iterator[str]:
    if not table.presets:
        return
    yield from ("", f"presets (defaults below: {preset}; --preset NAME --help prints those of NAME):")
    for name in table.presets:
        yield from _format_row(name, PRESETS[name])


def _format_options(table: OptionTable, preset: str, full: bool) -> Iterator[str]:
    shown = [option for option in table.options if full or option.short]
    headings = HEADINGS if table.presets else ("arguments", "options")
    for heading in headings:
        options = [option for option in shown if option.heading == heading]
        if options:
            yield from ("", f"{heading}:")
        for option in options:
            if option.name in _SHORT_FORMS:
                yield from _format_row(*_SHORT_FORMS[option.name])
            yield from _format_option(option, table, preset, full)


def _format_option(option: Option, table: OptionTable, preset: str, full: bool) -> list[str]:
    flag = "--data" if option.name == "data.root" else option.flag
    text = f"{_shorten(option.help, full)} {_format_default(option, preset)}".strip()
    return _format_row(f"{flag}{'.KEY' if option.is_dict else ''} {_format_type(option)}", with_hyphens(text, table))


def _format_row(left: str, text: str) -> list[str]:
    left = f"  {left}".rstrip()
    right = textwrap.wrap(text, WIDTH - COLUMN, break_on_hyphens=False) or [""]
    if len(left) >= COLUMN:
        return [left, *(" " * COLUMN + line for line in right)]
    return [f"{left:<{COLUMN}}{right[0]}", *(" " * COLUMN + line for line in right[1:])]


def _format_type(option: Option) -> str:
    if option.positional:
        return ""
    names = [_VALUE_NAMES[name] for name in (option.name, option.name.rpartition(".")[2]) if name in _VALUE_NAMES]
    choices = "{" + ",".join(option.choices) + "}"
    if option.choices and len(option.flag) + len(choices) < COLUMN - 3:
        names = [choices]
    return names[0] if names else _format_type_name(option)


def _format_type_name(option: Option) -> str:
    if option.is_dict:
        item = option.type.removesuffix(" | None").rstrip("]").rpartition(" ")[2]
    elif option.is_list:
        item = option.type.removesuffix(" | None").partition("[")[2].partition(",")[0].rstrip("]")
    else:
        item = option.type.removesuffix(" | None")
    return _TYPE_NAMES.get(item, item.upper()) + ",…" * option.is_list


def _format_default(option: Option, preset: str) -> str:
    value = option.default_of(preset)
    hidden = option.positional or value == "" or option.name in ("config", "preset")
    return "" if hidden else f"[{format_value(value)}]"


def format_value(value: Any) -> str:
    """Return ``value`` as it is typed: lists with commas, "none" for nothing."""
    if value is None or value in ([], {}):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {format_value(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ",".join(map(format_value, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _shorten(text: str, full: bool) -> str:
    """Return the first sentence, or its part before ";", of a long text; nothing is cut inside parentheses."""
    if full or len(text) <= SHORT_TEXT:
        return text
    ends = [
        match.start()
        for match in re.finditer(r"[.;] ", text)
        if text[: match.start()].count("(") == text[: match.start()].count(")")
    ]
    return f"{text[: ends[0]]}." if ends else text


def _format_footer(table: OptionTable, full: bool) -> str:
    hidden = 0 if full else sum(not option.short for option in table.options)
    settings = f"--help-all lists {hidden} more settings. " if hidden else ""
    return f"{settings}Defaults are in brackets; lists are written with commas."


def format_overview(rows: Sequence[tuple[str, str]], prog: str) -> str:
    """Return the list of commands of ``prog``, given as pairs of name and summary."""
    lines = [f"  {name:<12} {summary}" for name, summary in rows]
    footer = ["", "Start with: featlift demo"] if prog == "featlift" else []
    return "\n".join([f"usage: {prog} COMMAND …", "", *lines, "", f"Help on a command: {prog} COMMAND --help", *footer])
