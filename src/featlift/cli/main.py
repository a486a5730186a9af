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
class Verb:
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

VERBS: dict[str, Verb | dict[str, Verb]] = {
    "demo": Verb("train, compare and report on built-in pictures, about 12 minutes", "demo:demo"),
    "train": {name: Verb(summary, "train:train") for name, summary in PAPERS.items()},
    "evaluate": Verb("AP and AR of a run on pictures, by size; curves of a search", "evaluate:evaluate"),
    "predict": Verb("find objects in pictures: drawn pictures and COCO json out", "predict:predict"),
    "compare": Verb("two runs: what was gained, what was lost, what it costs", "compare:compare"),
    "versus": Verb("interpolators against each other at equal budget, over several seeds", "benchmark:versus"),
    "table": Verb("a paper's table beside our runs, and the commands behind its rows", "table:table"),
    "upgrade": Verb("put a learned interpolator into a torchvision detector", "upgrade:upgrade"),
    "cost": Verb("parameters, multiply-adds, time and memory of each part, and of every interpolator", "profile:cost"),
    "export": Verb("write a run for ONNX, OpenVINO or torch.export, checked against itself", "export:export"),
    "finer": Verb("add a finer level for small objects to a torchvision detector, without labels", "add_level:finer"),
    "sr": Verb("enlarge pictures with a super-resolution network", "upscale:sr"),
    "index": Verb("describe a folder of pictures for search", "search:index"),
    "search": Verb("pictures like a query, plainly and lifted, on a contact sheet", "search:search"),
    "data": {
        "make": Verb("write built-in pictures as a COCO folder", "data:make"),
        "check": Verb("read a COCO folder and say what is in it and what is wrong", "data:check"),
    },
    "list": Verb("names that options take: interpolators, pyramids, detectors, presets", "listing:show"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``featlift`` with ``arguments`` (the command line's by default); returns the exit code.

    What the user can mend is said in a sentence, without a traceback (``FEATLIFT_TRACEBACK=1`` shows it).
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _run(given, VERBS, "featlift")
    except (ValueError, TypeError, OSError, ImportError, FloatingPointError) as error:
        if os.environ.get("FEATLIFT_TRACEBACK"):
            raise
        print(f"featlift: {error}", file=sys.stderr)
        return 1


def _run(given: list[str], verbs: Mapping[str, Verb | dict[str, Verb]], path: str) -> int:
    if not given or given[0] in ("-h", "--help"):
        print(_help(verbs, path))
        return 0 if given else 2
    if given[0] == "--version":
        print(f"featlift {_version()}")
        return 0
    if given[0] not in verbs:
        raise ValueError(f"Unknown '{path} {given[0]}'.{_near(given[0], verbs)} There are: {', '.join(verbs)}.")
    verb, rest = verbs[given[0]], given[1:]
    if isinstance(verb, dict):
        return _run(rest, verb, f"{path} {given[0]}")
    _call(verb, given[0], f"{path} {given[0]}", rest)
    return 0


def _call(verb: Verb, name: str, path: str, rest: list[str]) -> None:
    from featlift.cli import parser

    module, function = verb.function.split(":")
    called: Callable[..., Any] = getattr(importlib.import_module(f"featlift.commands.{module}"), function)
    if module == "train":
        called(**parser.with_presets(name, path, rest))
    else:
        called(**parser.of_function(called, path, verb.summary, rest))


def _help(verbs: Mapping[str, Verb | dict[str, Verb]], path: str) -> str:
    rows = [f"  {name:<10} {_summary(verb)}" for name, verb in verbs.items()]
    ends = "" if path != "featlift" else "\n\nStart with: featlift demo"
    return f"usage: {path} VERB …\n\n" + "\n".join(rows) + f"\n\n{path} VERB --help explains a verb.{ends}"


def _summary(verb: Verb | dict[str, Verb]) -> str:
    return verb.summary if isinstance(verb, Verb) else " | ".join(verb)


def _near(word: str, words: Mapping[str, Any]) -> str:
    import difflib

    near = difflib.get_close_matches(word, words, n=1)
    return f" Did you mean '{near[0]}'?" if near else ""


def _version() -> str:
    from importlib.metadata import version

    return version("featlift")


if __name__ == "__main__":
    sys.exit(main())
