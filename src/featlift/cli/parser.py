"""From words to the arguments of a function, by its signature and docstring; presets become defaults."""

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
    "quick": "a laptop: small networks on the built-in pictures",
    "short": "one GPU and a night",
    "paper": "what the paper says",
    "dense": "the papers' schedule for RetinaNet, FCOS and CenterMask",
    "transformer": "the papers' schedule for Swin",
    "official": "what the published code does",
}


class SuggestingParser(ArgumentParser):
    """A parser whose errors name the nearest option instead of printing the whole usage."""

    def error(self, message: str, ex: Exception | None = None) -> Any:
        """Print ``message`` and what was probably meant, and leave with code 2."""
        print(
            f"{self.prog}: {message}{self._suggest(message)}\n{self.prog} --help lists every option.", file=sys.stderr
        )
        raise SystemExit(2)

    def _suggest(self, message: str) -> str:
        unknown = re.search(r"nrecognized arguments: (--[\w.\-]+)", message)
        if not unknown:
            return ""
        options = [option for action in self._actions for option in action.option_strings if option.startswith("--")]
        last = {option.rpartition(".")[2]: option for option in options}
        word = unknown[1]
        near = difflib.get_close_matches(word, options, n=1) or [
            last[name] for name in difflib.get_close_matches(word.rpartition(".")[2].lstrip("-"), last, n=1)
        ]
        return f"\nDid you mean {near[0]}?" if near else ""


def parse_function_args(function: Callable[..., Any], prog: str, summary: str, argv: Sequence[str]) -> dict[str, Any]:
    """The arguments of ``function`` out of ``argv``; those without a default are positional, and a list of names takes all words left.

    The fields of an argument that is a dataclass are options of their own.
    """
    parser = SuggestingParser(prog=prog, description=summary)
    parser.add_argument("--config", action="config", help="A YAML file with these options.")
    parameters = inspect.signature(function).parameters.values()
    grouped: dict[str, Any] = {p.name: p.annotation for p in parameters if is_dataclass(p.annotation)}
    lists = [p for p in parameters if p.annotation in (list[str], tuple[str, ...])]
    skipped: set[str | int] = {*(p.name for p in lists), *grouped}
    parser.add_function_arguments(function, as_group=False, as_positional=True, skip=skipped)
    for kind in grouped.values():
        parser.add_class_arguments(kind, None, as_group=False)
    for p in lists:
        explained = re.search(rf"{p.name}: (.+)", function.__doc__ or "")
        parser.add_argument(
            p.name, nargs="+" if p.default is p.empty else "*", help=explained[1] if explained else None
        )
    values = _parse(parser, argv)
    for name, kind in grouped.items():
        values[name] = kind(**{field: values.pop(field) for field in kind.__dataclass_fields__})
    return values


def parse_training_args(paper: str, prog: str, argv: Sequence[str]) -> dict[str, Any]:
    """The settings of a paper out of ``argv``: a preset, changed by a YAML file, changed by options.

    ``--data FOLDER`` is short for ``--data.root FOLDER``.

    Raises:
        ValueError: for a preset that does not exist.
    """
    from featlift.commands.train import RunOptions

    module = importlib.import_module(f"featlift.papers.{paper.replace('-', '_')}")
    argv, preset = _split_preset(argv)
    parser = SuggestingParser(prog=prog, description=_first_line(module.__doc__))
    parser.add_argument(
        "--preset",
        default=preset,
        help=f"{', '.join(PRESETS)} (featlift list presets explains them).",
    )
    parser.add_argument("--config", action="config", help="A YAML file with these options.")
    parser.add_class_arguments(RunOptions, None, as_group=False, skip=set() if hasattr(module, "STAGES") else {"until"})
    parser.add_class_arguments(module.Settings, None)
    parser.set_defaults({"run": f"runs/{paper}", **asdict(_build_preset(module.Settings, preset))})
    values = _parse(parser, argv, expand_data=module.Settings)
    values.pop("preset")
    running = {name: values.pop(name) for name in list(values) if name in RunOptions.__dataclass_fields__}
    return {"paper": paper, "settings": module.Settings(**values), "running": RunOptions(**running)}


def _build_preset(settings: Any, name: str) -> Any:
    made = settings() if name == "paper" else getattr(settings, name, lambda: None)()
    if name not in PRESETS or made is None:
        there = [preset for preset in PRESETS if preset == "paper" or hasattr(settings, preset)]
        raise ValueError(f"Unknown preset '{name}'; there are {', '.join(there)}.")
    return made


def _split_preset(argv: Sequence[str]) -> tuple[list[str], str]:
    left, preset = [], "quick"
    stream = iter(argv)
    for word in stream:
        if word == "--preset":
            preset = next(stream, "")
        elif word.startswith("--preset="):
            preset = word.partition("=")[2]
        else:
            left.append(word)
    return left, preset


def _parse(parser: ArgumentParser, argv: Sequence[str], expand_data: Any = None) -> dict[str, Any]:
    spelled = list(_normalize_options(parser, _expand_data_option(argv) if expand_data else argv))
    parsed = parser.parse_args(spelled)
    values = dict(vars(parser.instantiate(parsed)))
    values.pop("config", None)
    return values


def _normalize_options(parser: ArgumentParser, argv: Sequence[str]) -> Iterator[str]:
    """``--skip-broken`` as ``--skip_broken true``: hyphens as in names elsewhere, and yes-or-no options without a value mean yes."""
    for word, following in zip(argv, [*argv, "--"][1:], strict=True):
        option, equals, value = word.partition("=")
        if not option.startswith("--"):
            yield word
            continue
        option = option.replace("-", "_").replace("__", "--", 1)
        yield f"{option}{equals}{value}"
        if not equals and following.startswith("--") and isinstance(_option_default(parser, option[2:]), bool):
            yield "true"


def _option_default(parser: ArgumentParser, name: str) -> Any:
    return next((action.default for action in parser._actions if action.dest == name), None)


def _expand_data_option(argv: Sequence[str]) -> list[str]:
    """``--data X`` as ``--data.root X``, unless X is a YAML file or inline settings; ``--skip-broken`` as ``--data.skip-broken``."""
    changed = [re.sub(r"^--skip[-_]broken(?==|$)", "--data.skip_broken", word) for word in argv]
    for i, word in enumerate(changed):
        value = word.partition("=")[2] if word.startswith("--data=") else changed[i + 1] if i + 1 < len(changed) else ""
        inline = value.startswith("{") or value.endswith((".yaml", ".yml"))
        if not inline and (word == "--data" or word.startswith("--data=")):
            changed[i] = word.replace("--data", "--data.root", 1)
    return changed


def _first_line(text: str | None) -> str:
    return (text or "").strip().splitlines()[0]
