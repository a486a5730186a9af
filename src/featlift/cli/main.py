"""``featlift COMMAND …``: find the command, parse the options of its function, and call the function.

Heavy modules are imported only after the command is known, so ``featlift --help`` is fast.
"""

import importlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Command:
    """A command: its line in ``featlift --help``, and its function as ``"module:function"`` below `featlift.commands`."""

    summary: str
    function: str


PAPERS: dict[str, str] = {
    "baseline": "a detector with any interpolator in its pyramid",
    "afi-gan": "AFI-GAN: interpolator, extractor and target detector in three stages",
    "srf-gan": "SRF-GAN: the same stages with residual blocks and batch norm",
    "efpn": "EFPN: an extended pyramid level for small objects, distilled from the detector at 2x resolution",
    "light": "a light interpolator distilled from a heavy one, then fine-tuned with its detector",
    "fsr-gan": "FSR-GAN: super-resolution of the descriptors of small query images",
    "fdsr": "FDSR: an image super-resolution network trained with a detector's features",
}

COMMANDS: dict[str, Command | dict[str, Command]] = {
    "demo": Command("train, compare and report on synthetic images, about 12 minutes", "demo:demo"),
    "train": {name: Command(summary, "train:train") for name, summary in PAPERS.items()},
    "evaluate": Command("AP and AR of a run by object size; retrieval curves of an FSR-GAN run", "evaluate:evaluate"),
    "predict": Command("detect objects in images; write annotated images and COCO JSON", "predict:predict"),
    "compare": Command("compare two runs: objects gained and lost, differences in AP, cost", "compare:compare"),
    "benchmark": Command("compare interpolators at an equal training budget over several seeds", "benchmark:benchmark"),
    "table": Command(
        "print a paper's table with FeatLift's runs and the commands that train its rows", "table:paper_table"
    ),
    "upgrade": Command("put a learned interpolator into a torchvision detector", "upgrade:upgrade_detector"),
    "profile": Command(
        "parameters, multiply-adds, latency and memory of each part and of every interpolator", "profile:profile"
    ),
    "export": Command("export a run to ONNX, OpenVINO or torch.export and verify the outputs", "export:export"),
    "add-level": Command(
        "add an extended level for small objects to a torchvision detector, without labels", "add_level:add_level"
    ),
    "upscale": Command("upscale images with a super-resolution network", "upscale:upscale"),
    "index": Command("compute descriptors of a folder of images for search", "search:index"),
    "search": Command("search by image, with raw and super-resolved queries; write a contact sheet", "search:search"),
    "data": {
        "generate": Command("write synthetic images as a COCO folder", "data:generate_data"),
        "check": Command("read a COCO folder; print statistics and problems", "data:check_data"),
    },
    "list": Command("list the names of interpolators, pyramids, detectors, presets", "listing:list_names"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``featlift`` with the arguments ``argv`` (default: ``sys.argv[1:]``) and return the exit code.

    Errors that the user can fix are printed as a sentence without a traceback; ``FEATLIFT_TRACEBACK=1`` raises them.
    """
    try:
        return _dispatch(list(sys.argv[1:] if argv is None else argv), COMMANDS, "featlift")
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
        raise ValueError(
            f"Unknown command '{prog} {argv[0]}'.{_suggest(argv[0], commands)} Available: {', '.join(commands)}."
        )
    command, rest = commands[argv[0]], argv[1:]
    if isinstance(command, dict):
        return _dispatch(rest, command, f"{prog} {argv[0]}")
    _run_command(command, argv[0], f"{prog} {argv[0]}", rest)
    return 0


def _run_command(command: Command, name: str, prog: str, argv: list[str]) -> None:
    from featlift.cli import parser

    module, attribute = command.function.split(":")
    function: Callable[..., Any] = getattr(importlib.import_module(f"featlift.commands.{module}"), attribute)
    if module == "train":
        function(**parser.parse_training_args(name, prog, argv))
    else:
        function(**parser.parse_function_args(function, prog, command.summary, argv))


def _format_help(commands: Mapping[str, Command | dict[str, Command]], prog: str) -> str:
    rows = [f"  {name:<12} {_format_summary(command)}" for name, command in commands.items()]
    footer = "" if prog != "featlift" else "\n\nStart with: featlift demo"
    return f"usage: {prog} COMMAND …\n\n" + "\n".join(rows) + f"\n\nHelp on a command: {prog} COMMAND --help{footer}"


def _format_summary(command: Command | dict[str, Command]) -> str:
    return command.summary if isinstance(command, Command) else " | ".join(command)


def _suggest(name: str, candidates: Mapping[str, Any]) -> str:
    import difflib

    matches = difflib.get_close_matches(name, candidates, n=1)
    return f" Did you mean '{matches[0]}'?" if matches else ""


def _read_version() -> str:
    from importlib.metadata import version

    return version("featlift")


if __name__ == "__main__":
    sys.exit(main())
