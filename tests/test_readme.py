"""What README and documentation tell people to type, works: Python blocks run, `featlift …` lines parse."""

import re
import shlex
from pathlib import Path

import pytest

from featlift.cli import main

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
ENDS = {"|", "||", "&&", ";", ">", ">>", "2>", "2>&1", "&"}
"""Words of the shell after which a command of ours is over."""


OURS = ("featlift",)


class Parsed(Exception):
    """The command line understood its words."""


def blocks(page: Path, *languages: str) -> list[str]:
    return [body for language, body in BLOCK.findall(page.read_text()) if language in languages]


def commands(page: Path) -> list[list[str]]:
    """Every ``featlift …`` in the shell blocks of ``page``, its words without the first."""
    found = []
    for body in blocks(page, "", "sh", "bash", "shell", "console"):
        for line in body.replace("\\\n", " ").splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True) if "featlift" in line else []
            places = [i for i, word in enumerate(words) if word in OURS or word.endswith("/featlift")]
            if places and "install" not in words[: places[0]]:
                rest = words[places[0] + 1 :]
                found.append(rest[: next((i for i, word in enumerate(rest) if word in ENDS), len(rest))])
    return found


def launches(page: Path) -> list[list[str]]:
    """Every ``torchrun …`` in the shell blocks of ``page``, its words without the first."""
    lines = "\n".join(blocks(page, "", "sh", "bash", "shell", "console")).replace("\\\n", " ").splitlines()
    return [shlex.split(line)[shlex.split(line).index("torchrun") + 1 :] for line in lines if "torchrun" in line]


def written(read) -> list:
    return [pytest.param(thing, id=f"{page.name}-{i}") for page in PAGES for i, thing in enumerate(read(page))]


@pytest.mark.parametrize("words", written(commands))
def test_every_command_is_understood(words, monkeypatch):
    """The function behind the verb is not called; its words must have become its arguments."""
    if any("…" in word or word.isupper() for word in words[:2]):
        pytest.skip("a placeholder stands for the verb")
    from featlift.cli import parser

    taken = parser._parse

    def parsed(*arguments, **options):
        taken(*arguments, **options)
        raise Parsed

    monkeypatch.setattr(parser, "_taken", parsed)
    assert outcome(words) == 0, f"featlift {' '.join(words)}"


def outcome(words: list[str]) -> int:
    """The exit code, 0 once the words are understood."""
    try:
        return main.main(words)
    except Parsed:
        return 0
    except SystemExit as left:
        return int(left.code or 0)


@pytest.mark.parametrize("words", written(launches))
def test_torchrun_leaves_our_words_to_us(words):
    from torch.distributed.run import parse_args

    launched = parse_args(words)
    assert (launched.module, launched.training_script) == (True, "featlift")
    assert launched.training_script_args == words[words.index("featlift") + 1 :]


def test_the_python_of_the_readme_runs(tmp_path, monkeypatch):
    """Block after block in one session, in an empty folder; weights that would be downloaded are random ones instead."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", _refuse)
    session = {"__name__": "readme"}
    for number, block in enumerate(blocks(PAGES[0], "python", "py"), 1):
        exec(compile(_offline(block), f"README.md, Python block {number}", "exec"), session)


def _offline(block: str) -> str:
    """Without pretrained weights; "…" stands for what the reader puts there, which Python writes as ``...``."""
    return re.sub(
        r"""weights=(["']DEFAULT["']|["']IMAGENET1K_V\d["'])""",
        "weights=None, weights_backbone=None",
        block.replace("…", "..."),
    )


def _refuse(*arguments, **options):
    raise AssertionError("The README downloads something without being asked for.")


def test_a_command_is_found_among_other_words(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "```sh\n$ featlift data check some/folder | head  # look\npip install featlift\nCUDA=0 torchrun x featlift train \\\n"
        "    baseline --seed 1\n```\n```python\nfeatlift demo\n```\n"
    )
    assert commands(page) == [["data", "check", "some/folder"], ["train", "baseline", "--seed", "1"]]
    assert blocks(page, "python") == ["featlift demo\n"]


@pytest.mark.parametrize("words", [["train", "afi-gan", "--modle.channels", "3"], ["demo", "--stpes", "3"], ["frob"]])
def test_a_wrong_command_would_be_noticed(words):
    assert outcome(words) != 0
