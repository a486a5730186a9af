"""The options of every command, read from ``options.json``, so that help and messages need neither torch nor the parser.

``python -m featlift.cli.options`` writes the file from signatures, dataclasses and presets; a test compares both.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

OPTIONS_FILE = Path(__file__).with_name("options.json")


@dataclass(frozen=True)
class Option:
    """An option or positional argument of a command.

    Attributes:
        name: Dotted name with underscores, as in Python: "data.batch_size".
        type: Type as written in Python: "int", "tuple[int, ...]".
        default: Default value; None for positional arguments that must be given.
        help: What it means, in full.
        heading: Heading of the help under which it stands.
        positional: Whether it is given without its name.
        required: Whether it has no default.
        short: Whether the short help lists it.
        choices: Accepted values, if they are few.
        presets: Preset → default value, where it differs from ``default``.
    """

    name: str
    type: str
    default: Any = None
    help: str = ""
    heading: str = "options"
    positional: bool = False
    required: bool = False
    short: bool = True
    choices: tuple[str, ...] = ()
    presets: dict[str, Any] = field(default_factory=dict)

    @property
    def flag(self) -> str:
        """The option as it is typed: ``--data.batch-size``."""
        return self.name.upper() if self.positional else f"--{self.name.replace('_', '-')}"

    @property
    def what(self) -> str:
        """What a value of it is, for messages: "schedule", "list"."""
        last = self.name.rpartition(".")[2].replace("_", " ")
        return last.removesuffix("s") if self.is_list else last

    @property
    def is_list(self) -> bool:
        """Whether it takes several values."""
        return self.type.startswith(("tuple", "list"))

    @property
    def is_dict(self) -> bool:
        """Whether it takes values by key, as in ``--super-resolvers.KEY VALUE``."""
        return self.type.startswith("dict")

    def default_of(self, preset: str) -> Any:
        """Return the default value with ``preset``."""
        return self.presets.get(preset, self.default)


@dataclass(frozen=True)
class OptionTable:
    """All options of a command.

    Attributes:
        command: Words of the command after ``featlift``: "train afi-gan".
        options: Options and positional arguments, in the order of the help.
        presets: Preset → its description; empty for commands without presets.
    """

    command: str
    options: tuple[Option, ...]
    presets: dict[str, str] = field(default_factory=dict)

    def find(self, name: str) -> Option | None:
        """Return the option that ``name`` (with hyphens or underscores, without ``--``) sets, or None.

        A key of a dictionary, ``super-resolvers.fdsr``, belongs to the option of the dictionary.
        """
        name = name.replace("-", "_")
        return next((o for o in self.options if name == o.name or (o.is_dict and name.startswith(f"{o.name}."))), None)

    def has_group(self, name: str) -> bool:
        """Return whether ``name`` is the first part of option names, such as "model"."""
        return any(option.name.startswith(f"{name.replace('-', '_')}.") for option in self.options)

    def positionals(self) -> Iterator[Option]:
        """Yield the positional arguments in order."""
        return (option for option in self.options if option.positional)

    def flags(self) -> list[str]:
        """Return all options as they are typed."""
        return [option.flag for option in self.options if not option.positional]


@cache
def load_option_table(command: str) -> OptionTable:
    """Return the options of ``command`` ("predict", "train afi-gan").

    Raises:
        KeyError: If there is no such command; write the file again with ``python -m featlift.cli.options``.
    """
    content = _read_options()["commands"][command]
    options = tuple(Option(**{**entry, "choices": tuple(entry.get("choices", ()))}) for entry in content["options"])
    return OptionTable(command, options, content.get("presets", {}))


@cache
def _read_options() -> dict[str, Any]:
    return json.loads(OPTIONS_FILE.read_text(encoding="utf-8"))


def with_hyphens(text: str, table: OptionTable) -> str:
    """Return ``text`` in which the names of options are written with hyphens, as they are typed."""
    names = {part for option in table.options for part in option.name.split(".") if "_" in part}
    return re.sub(r"\b[a-z]+(?:_[a-z]+)+\b", lambda m: m[0].replace("_", "-") if m[0] in names else m[0], text)
