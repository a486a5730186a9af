"""Parse command-line arguments into the arguments of a function, by its signature and docstring; presets become defaults."""

import difflib
import importlib
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, is_dataclass
from typing import Any

from jsonargparse import ArgumentParser

PRESETS = {
    "quick": "for a laptop: small networks on the synthetic images",
    "short": "one GPU, one night",
    "paper": "as in the paper",
    "dense": "the papers' schedule for RetinaNet, FCOS and CenterMask",
    "transformer": "the papers' schedule for Swin",
    "official": "as in the published code",
}


class SuggestingParser(ArgumentParser):
    """Argument parser whose errors suggest the closest option instead of printing the whole usage."""

    def error(self, message: str, ex: Exception | None = None) -> Any:
        """Print ``message`` with a suggested option and exit with code 2."""
        print(
            f"{self.prog}: {message}{self._suggest(message)}\n{self.prog} --help lists every option.", file=sys.stderr
        )
        raise SystemExit(2)

    def _suggest(self, message: str) -> str:
        unknown = re.search(r"nrecognized arguments: (--[\w.\-]+)", message)
        if not unknown:
            return ""
        options = [option for action in self._actions for option in action.option_strings if option.startswith("--")]
        by_last_name = {option.rpartition(".")[2]: option for option in options}
        last_name = unknown[1].rpartition(".")[2].lstrip("-")
        matches = difflib.get_close_matches(unknown[1], options, n=1, cutoff=0.75) or [
            by_last_name[name] for name in difflib.get_close_matches(last_name, by_last_name, n=1)
        ]
        return f"\nDid you mean {matches[0]}?" if matches else ""


def parse_function_args(function: Callable[..., Any], prog: str, summary: str, argv: Sequence[str]) -> dict[str, Any]:
    """Return the keyword arguments of ``function`` parsed from ``argv``.

    Parameters without a default are positional; a list of strings takes all remaining arguments. Each field of a dataclass parameter
    is an option.
    """
    parser = SuggestingParser(prog=prog, description=summary)
    parser.add_argument("--config", action="config", help="YAML file with these options.")
    parameters = inspect.signature(function).parameters.values()
    grouped: dict[str, Any] = {p.name: p.annotation for p in parameters if is_dataclass(p.annotation)}
    lists = [p for p in parameters if p.annotation in (list[str], tuple[str, ...])]
    skipped: set[str | int] = {*(p.name for p in lists), *grouped}
    parser.add_function_arguments(function, as_group=False, as_positional=True, skip=skipped)
    for config_class in grouped.values():
        parser.add_class_arguments(config_class, None, as_group=False)
    for p in lists:
        text = re.search(rf"{p.name}: (.+)", function.__doc__ or "")
        parser.add_argument(p.name, nargs="+" if p.default is p.empty else "*", help=text[1] if text else None)
    values = _parse(parser, argv)
    for name, config_class in grouped.items():
        values[name] = config_class(**{field: values.pop(field) for field in config_class.__dataclass_fields__})
    return values


def parse_training_args(paper: str, prog: str, argv: Sequence[str]) -> dict[str, Any]:
    """Return the arguments of :func:`featlift.commands.train.train`: the preset's settings, overridden by a YAML file and by options.

    ``--data FOLDER`` is short for ``--data.root FOLDER``.

    Raises:
        ValueError: If the preset does not exist.
    """
    from featlift.commands.train import RunOptions

    module = importlib.import_module(f"featlift.papers.{paper.replace('-', '_')}")
    argv, preset = _split_preset(argv)
    parser = SuggestingParser(prog=prog, description=_first_line(module.__doc__))
    parser.add_argument(
        "--preset",
        default=preset,
        help=f"Preset: {', '.join(PRESETS)} (see featlift list presets).",
    )
    parser.add_argument("--config", action="config", help="YAML file with these options.")
    skipped: set[str | int] = set() if hasattr(module, "STAGES") else {"stop_after"}
    parser.add_class_arguments(RunOptions, None, as_group=False, skip=skipped)
    parser.add_class_arguments(module.Settings, None)
    parser.set_defaults({"run": f"runs/{paper}", **asdict(_build_preset(module.Settings, preset))})
    values = _parse(parser, argv, expand_data=module.Settings)
    values.pop("preset")
    run_options = {name: values.pop(name) for name in list(values) if name in RunOptions.__dataclass_fields__}
    return {"paper": paper, "settings": module.Settings(**values), "run_options": RunOptions(**run_options)}


def _build_preset(settings: Any, name: str) -> Any:
    instance = settings() if name == "paper" else getattr(settings, name, lambda: None)()
    if name not in PRESETS or instance is None:
        available = [preset for preset in PRESETS if preset == "paper" or hasattr(settings, preset)]
        raise ValueError(f"Unknown preset '{name}'; choose one of {', '.join(available)}.")
    return instance


def _split_preset(argv: Sequence[str]) -> tuple[list[str], str]:
    remaining, preset = [], "quick"
    stream = iter(argv)
    for arg in stream:
        if arg == "--preset":
            preset = next(stream, "")
        elif arg.startswith("--preset="):
            preset = arg.partition("=")[2]
        else:
            remaining.append(arg)
    return remaining, preset


def _parse(parser: ArgumentParser, argv: Sequence[str], expand_data: Any = None) -> dict[str, Any]:
    normalized = list(_normalize_options(parser, _expand_data_option(argv) if expand_data else argv))
    values = dict(vars(parser.instantiate(parser.parse_args(normalized))))
    values.pop("config", None)
    return values


def _normalize_options(parser: ArgumentParser, argv: Sequence[str]) -> Iterator[str]:
    """Replace hyphens in option names by underscores, and add ``true`` to Boolean options without a value."""
    for arg, following in zip(argv, [*argv, "--"][1:], strict=True):
        option, equals, value = arg.partition("=")
        if not option.startswith("--"):
            yield arg
            continue
        option = option.replace("-", "_").replace("__", "--", 1)
        yield f"{option}{equals}{value}"
        if not equals and following.startswith("--") and isinstance(_option_default(parser, option[2:]), bool):
            yield "true"


def _option_default(parser: ArgumentParser, name: str) -> Any:
    return next((action.default for action in parser._actions if action.dest == name), None)


def _expand_data_option(argv: Sequence[str]) -> list[str]:
    """Replace ``--data X`` by ``--data.root X``, unless X is a YAML file or inline JSON; ``--skip-broken`` by ``--data.skip_broken``."""
    args = [re.sub(r"^--skip[-_]broken(?==|$)", "--data.skip_broken", arg) for arg in argv]
    for i, arg in enumerate(args):
        value = arg.partition("=")[2] if arg.startswith("--data=") else args[i + 1] if i + 1 < len(args) else ""
        inline = value.startswith("{") or value.endswith((".yaml", ".yml"))
        if not inline and (arg == "--data" or arg.startswith("--data=")):
            args[i] = arg.replace("--data", "--data.root", 1)
    return args


def _first_line(text: str | None) -> str:
    return (text or "").strip().splitlines()[0]
