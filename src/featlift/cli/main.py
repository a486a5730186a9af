"""``featlift COMMAND …``: find the command, parse the options of its function, and call the function.

Heavy modules are imported only after the words are checked: help and most errors need neither torch nor the parser.
"""

import importlib
import io
import os
import signal
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from featlift.cli.arguments import UsageError, data_root, read_assignments
from featlift.cli.error_messages import describe_error
from featlift.cli.help import format_help, format_overview
from featlift.cli.hints import suggest_verb
from featlift.cli.option_table import OptionTable, load_option_table
from featlift.cli.verbs import COMMANDS, Command
from featlift.runs.presets import describe_preset

HELP_WORDS = ("-h", "--help", "--help-all", "--help_all")


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``featlift`` with the arguments ``argv`` (default: ``sys.argv[1:]``) and return the exit code.

    Every error is printed as a sentence without a traceback; ``FEATLIFT_TRACEBACK=1`` raises it.
    """
    warnings.formatwarning = _format_warning
    _escape_undecodable_names()
    try:
        return _dispatch(list(sys.argv[1:] if argv is None else argv), COMMANDS, "featlift")
    except BrokenPipeError:  # the reader, such as `head`, has closed the output
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        if os.environ.get("FEATLIFT_TRACEBACK"):
            raise
        print("featlift: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    except Exception as error:
        if os.environ.get("FEATLIFT_TRACEBACK"):
            raise
        print(f"featlift: {describe_error(error)}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1


def _escape_undecodable_names() -> None:
    """Print file names that are not in the encoding of the terminal with escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _format_warning(message: Warning | str, category: type[Warning], *where: Any) -> str:
    """Return a warning as one line of the command line, without the source line."""
    return f"featlift: warning: {message}\n"


def _dispatch(argv: list[str], commands: Mapping[str, Command | dict[str, Command]], prog: str) -> int:
    if not argv or argv[0] in HELP_WORDS:
        print(format_overview([(name, _summarize(command)) for name, command in commands.items()], prog))
        return 0 if argv else 2
    if argv[0] == "--version":
        print(f"featlift {_read_version()}")
        return 0
    if argv[0] not in commands:
        hint = suggest_verb(argv[0], list(commands))
        raise UsageError(f"Unknown command '{prog} {argv[0]}'.{hint} Available: {', '.join(commands)}.")
    command, rest = commands[argv[0]], argv[1:]
    if isinstance(command, dict):
        return _dispatch(rest, command, f"{prog} {argv[0]}")
    _run_command(command, f"{prog} {argv[0]}".removeprefix("featlift "), rest)
    return 0


def _run_command(command: Command, name: str, argv: list[str]) -> None:
    table = load_option_table(name)
    if any(word in HELP_WORDS for word in argv):
        _print_help(command, table, argv)
        return
    try:
        read_assignments(argv, table)  # reports a mistyped option before anything heavy is imported
        _call(command, table, argv)
    except UsageError as error:
        raise UsageError(f"{error}\nfeatlift {name} --help lists the options.") from error


def _call(command: Command, table: OptionTable, argv: list[str]) -> None:
    from featlift.cli import parser

    function = load_function(command)
    if not table.presets:
        function(**parser.parse_function_args(function, table, argv))
        return
    paper, root = table.command.removeprefix("train "), data_root(read_assignments(argv, table).values)
    arguments = parser.parse_training_args(paper, argv)
    preset = arguments.pop("preset")
    if os.environ.get("RANK", "0") == "0":
        print(describe_preset(preset, paper, root))
    function(**arguments)


def load_function(command: Command) -> Callable[..., Any]:
    """Import the function of ``command``."""
    module, attribute = command.function.split(":")
    return getattr(importlib.import_module(f"featlift.commands.{module}"), attribute)


def _print_help(command: Command, table: OptionTable, argv: Sequence[str]) -> None:
    words = [word for word in argv if word not in HELP_WORDS]
    full = any(word.startswith("--help") and word.endswith("all") for word in argv)
    values = _read_values(words, table) if table.presets else {}
    preset = values.get("preset", "")
    print(format_help(command, table, preset if preset in table.presets else "", data_root(values), full))


def _read_values(words: Sequence[str], table: OptionTable) -> dict[str, str]:
    """Return the assignments given together with ``--help``; none if the words are not yet a valid call."""
    try:
        return read_assignments(words, table).values
    except (UsageError, OSError):
        return {}


def _summarize(command: Command | dict[str, Command]) -> str:
    return command.summary if isinstance(command, Command) else " | ".join(command)


def _read_version() -> str:
    from featlift import __version__

    return __version__


if __name__ == "__main__":
    sys.exit(main())
