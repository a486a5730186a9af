"""``featlift VERB …``: the command line. It finds the verb, reads its options from the function behind it, and calls that.

Nothing heavy is imported before a verb is chosen, so ``featlift --help`` answers at once.
"""

import importlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Command:
    """A line of ``featlift --help`` and where its function is; ``make`` builds a parser for verbs with presets."""

    summary: str
    function: str


PAPERS: dict[str, str] = {
    "baseline": "a detector as it is, any interpolator in its pyramid",
    "afi-gan": "AFI-GAN: interpolator, extractor and target detector in three stages",
    "srf-gan": "SRF-GAN: the same stages with residual blocks and batch norm",
    "efpn": "EFPN: a finer pyramid level for small objects, learned from the detector itself at 2x",
    "light": "a light interpolator, taught by a heavy one, and its detector tuned",
    "fsr-gan": "FSR-GAN: the descriptor of a tiny query lifted to what the large picture would give",
    "fdsr": "FDSR: a super-resolution network taught by a detector's features",
}

COMMANDS: dict[str, Command | dict[str, Command]] = {
    "demo": Command("train, compare and report on built-in pictures, about 12 minutes", "demo:demo"),
    "train": {name: Command(summary, "train:train") for name, summary in PAPERS.items()},
    "evaluate": Command("AP and AR of a run on pictures, by size; curves of a search", "evaluate:evaluate"),
    "predict": Command("find objects in pictures: drawn pictures and COCO json out", "predict:predict"),
    "compare": Command("two runs: what was gained, what was lost, what it costs", "compare:compare"),
    "versus": Command("interpolators against each other at equal budget, over several seeds", "benchmark:versus"),
    "table": Command("a paper's table beside our runs, and the commands behind its rows", "table:table"),
    "upgrade": Command("put a learned interpolator into a torchvision detector", "upgrade:upgrade"),
    "cost": Command(
        "parameters, multiply-adds, time and memory of each part, and of every interpolator", "profile:cost"
    ),
    "export": Command("write a run for ONNX, OpenVINO or torch.export, checked against itself", "export:export"),
    "finer": Command(
        "add a finer level for small objects to a torchvision detector, without labels", "add_level:finer"
    ),
    "sr": Command("enlarge pictures with a super-resolution network", "upscale:sr"),
    "index": Command("describe a folder of pictures for search", "search:index"),
    "search": Command("pictures like a query, plainly and lifted, on a contact sheet", "search:search"),
    "data": {
        "make": Command("write built-in pictures as a COCO folder", "data:make"),
        "check": Command("read a COCO folder and say what is in it and what is wrong", "data:check"),
    },
    "list": Command("names that options take: interpolators, pyramids, detectors, presets", "listing:show"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``featlift`` with ``argv`` (the command line's by default); returns the exit code.

    What the user can mend is said in a sentence, without a traceback (``FEATLIFT_TRACEBACK=1`` shows it).
    """
    given = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(given, COMMANDS, "featlift")
    except (ValueError, TypeError, OSError, ImportError, FloatingPointError) as error:
        if os.environ.get("FEATLIFT_TRACEBACK"):
            raise
        print(f"featlift: {error}", file=sys.stderr)
        return 1


def _dispatch(argv: list[str], commands: Mapping[str, Command | dict[str, Command]], prog: str) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(_format_help(commands, prog))
        return 0 if argv else 2
    if argv[0] == "--version":
        print(f"featlift {_read_version()}")
        return 0
    if argv[0] not in commands:
        raise ValueError(f"Unknown '{prog} {argv[0]}'.{_suggest(argv[0], commands)} There are: {', '.join(commands)}.")
    verb, rest = commands[argv[0]], argv[1:]
    if isinstance(verb, dict):
        return _dispatch(rest, verb, f"{prog} {argv[0]}")
    _run_command(verb, argv[0], f"{prog} {argv[0]}", rest)
    return 0


def _run_command(command: Command, name: str, prog: str, argv: list[str]) -> None:
    from featlift.cli import parser

    module, function = command.function.split(":")
    called: Callable[..., Any] = getattr(importlib.import_module(f"featlift.commands.{module}"), function)
    if module == "train":
        called(**parser.parse_training_args(name, prog, argv))
    else:
        called(**parser.parse_function_args(called, prog, command.summary, argv))


def _format_help(commands: Mapping[str, Command | dict[str, Command]], prog: str) -> str:
    rows = [f"  {name:<10} {_format_summary(verb)}" for name, verb in commands.items()]
    ends = "" if prog != "featlift" else "\n\nStart with: featlift demo"
    return f"usage: {prog} VERB …\n\n" + "\n".join(rows) + f"\n\n{prog} VERB --help explains a verb.{ends}"


def _format_summary(command: Command | dict[str, Command]) -> str:
    return command.summary if isinstance(command, Command) else " | ".join(command)


def _suggest(word: str, candidates: Mapping[str, Any]) -> str:
    import difflib

    near = difflib.get_close_matches(word, candidates, n=1)
    return f" Did you mean '{near[0]}'?" if near else ""


def _read_version() -> str:
    from importlib.metadata import version

    return version("featlift")


if __name__ == "__main__":
    sys.exit(main())
