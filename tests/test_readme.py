"""What README and documentation tell people to type, works: Python blocks run, `featlift …` lines parse."""

import importlib.util
import json
import re
import shlex
from pathlib import Path

import pytest

from featlift.cli import main, parser

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
ENDS = {"|", "||", "&&", ";", ">", ">>", "2>", "2>&1", "&"}
"""Words of the shell after which a command of ours is over."""


OURS = ("featlift",)


class Parsed(BaseException):
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
def test_every_command_is_understood(words, tmp_path, monkeypatch):
    """The function of the command is not called; its words must have become its arguments. YAML files are those of the pages."""
    if "…" in words[0] or words[0].isupper():
        pytest.skip("a placeholder stands for the verb")
    for name in ("parse_function_args", "parse_training_args"):
        monkeypatch.setattr(parser, name, _and_stop(getattr(parser, name)))
    monkeypatch.chdir(tmp_path)
    for body in (body for page in PAGES for body in blocks(page, "yaml")):
        Path(body.partition("\n")[0].removeprefix("# ")).write_text(body)
    assert outcome(words) == 0, f"featlift {' '.join(words)}"


def _and_stop(parse):
    """``parse``, after which the command is not run."""

    def parsed(*arguments):
        parse(*arguments)
        raise Parsed

    return parsed


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


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, id=page.name) for page in PAGES if blocks(page, "python", "py") and page.name != "design.md"],
)
def test_the_python_of_a_page_runs(page, tmp_path, monkeypatch, shallow_torchvision):
    """Block after block in one session, in an empty folder; weights that would be downloaded are random ones instead, and networks shallow.

    ``design.md`` is left out: its blocks are signatures.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", _refuse)
    session = {"__name__": page.stem}
    for number, block in enumerate(blocks(page, "python", "py"), 1):
        exec(compile(_offline(block), f"{page.name}, Python block {number}", "exec"), session)


def _offline(block: str) -> str:
    """Without pretrained weights; "…" stands for what the reader puts there, which Python writes as ``...``."""
    return re.sub(
        r"""weights=(["']DEFAULT["']|["']IMAGENET1K_V\d["'])""",
        "weights=None, weights_backbone=None",
        block.replace("…", "..."),
    )


def _refuse(*arguments, **options):
    raise AssertionError("A page downloads something without being asked for.")


def test_the_example_runs(capsys, shallow_torchvision):
    spec = importlib.util.spec_from_file_location("example", ROOT / "examples" / "upgrade_torchvision.py")
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    example.SIZE = 64
    example.main(steps=1)
    answers = re.findall(r"^(identical|trained) detections.*: +(True|False)$", capsys.readouterr().out, re.MULTILINE)
    assert [answer for _, answer in answers] == ["True", "False", "True", "True"]


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


# ---------------------------------------------------------------------------------------------------- links, images, numbers

REPOSITORY = "https://github.com/featlift/featlift"
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)|^(?:\w+) = \"(https://[^\"]+)\"", re.MULTILINE)


def links(page: Path) -> list[str]:
    """Targets of the links and images of a page without its code blocks, or of ``[project.urls]``."""
    text = page.read_text()
    text = text[text.index("[project.urls]") :].partition("\n\n")[0] if page.suffix == ".toml" else BLOCK.sub("", text)
    return [first or second for first, second in LINK.findall(re.sub(r"`[^`]*`", "", text))]


def missing_target(page: Path, link: str) -> bool:
    """Whether ``link`` leads into the repository, to a file that does not exist."""
    for prefix in ("/blob/main/", "/tree/main/", "/raw/main/"):
        if link.startswith(REPOSITORY + prefix):
            return not (ROOT / link.removeprefix(REPOSITORY + prefix).partition("#")[0]).exists()
    if re.match(r"https?:|mailto:|#", link):
        return False
    return not (page.parent / link.partition("#")[0]).exists()


@pytest.mark.parametrize("page", [*PAGES, ROOT / "pyproject.toml"], ids=lambda page: page.name)
def test_links_into_the_repository_and_images_exist(page):
    assert not [link for link in links(page) if missing_target(page, link)]


def test_the_readme_renders_outside_the_repository():
    """PyPI shows the README alone: relative links would lead nowhere."""
    assert len(links(PAGES[0])) > 10
    assert not [link for link in links(PAGES[0]) if not link.startswith("https://")]


MEASURED = [
    ("efpn_gtsdb_start4", "EFPN, ftt", "Δ AP small to FPN [95 % CI]", "{}"),
    ("efpn_gtsdb_start4", "FPN, 2x image", "Δ AP small to FPN [95 % CI]", "{}"),
    ("efpn_gtsdb_start4", "FPN, 2x image, longer training", "Δ AP small to FPN [95 % CI]", "{}"),
    ("efpn_gtsdb_start4", "FPN, longer training", "Δ AP small to FPN [95 % CI]", "{}"),
    ("efpn_gtsdb_start4", "FPN, slices of 200 px, 2x (SAHI)", "Δ AP small to FPN [95 % CI]", "{}"),
    ("efpn_both_sizes_start2", "EFPN, ftt", "Δ AP small to FPN [95 % CI]", "{}"),
    ("efpn_both_sizes_start2", "FPN, 2x image", "Δ AP small to FPN [95 % CI]", "{}"),
    ("efpn_both_sizes_start2", "FPN, 2x image, longer training", "Δ AP small to FPN [95 % CI]", "{}"),
    ("efpn_both_sizes_start2", "FPN, longer training", "Δ AP small to FPN [95 % CI]", "{}"),
    ("efpn_both_sizes_start2", "FPN, slices of 80 px, 2x (SAHI)", "Δ AP small to FPN [95 % CI]", "{}"),
    ("coco_level_photograph", "the same with the extended level", "objects gained", "COCO images: {} objects gained"),
    ("coco_level_photograph", "the same with the extended level", "objects lost", "objects gained, {} lost"),
    ("coco_level_photograph", "YOLOX-Nano, COCO weights", "false positives", "lost, {} →"),
    ("coco_level_photograph", "the same with the extended level", "false positives", "→ {} wrong detections"),
    ("coco_level_time", "nearest+guided, windows above 0.1", "extra / 2x image's extra", "the level takes {} of"),
    ("interpolation_scenes", "light:plain", "Δ AP boxes [95 % CI]", "`light` {}"),
    ("interpolation_scenes", "dysample:plain", "Δ AP boxes [95 % CI]", "DySample {}"),
    ("interpolation_scenes", "afi:plain", "Δ AP boxes [95 % CI]", "AFI {}"),
    ("interpolation_scenes", "afi", "Δ AP boxes [95 % CI]", "AFI in the paper's three stages {}"),
    ("interpolation_scenes", "light:plain", "latency ratio", "{}x"),
    ("interpolation_scenes", "dysample:plain", "latency ratio", "{}x"),
    ("interpolation_scenes", "afi", "latency ratio", "{}x"),
    ("interpolation_deeppcb", "deconv:plain", "Δ AP boxes [95 % CI]", "deconvolution on circuit boards, +1.2 AP"),
    ("interpolation_gtsdb", "dysample:plain", "Δ AP boxes [95 % CI]", "on traffic signs\nDySample, {}"),
    ("interpolation_scenes", "deconv:plain", "Δ AP boxes [95 % CI]", "on synthetic scenes deconvolution, {}"),
    ("interpolation_scenes", "light:distilled", "Δ AP boxes [95 % CI]", "`light` after distillation, {}"),
    ("fdsr_photographs", "fine-tuned", "ap", "{}, bicubic"),
    ("fdsr_photographs", "bicubic", "ap", "without training {}"),
    ("fdsr_photographs", "FDSR with EDSR", "ap", "AP {}, the same network"),
    ("fdsr_photographs", "EDSR, pixels", "ap", "on pixels {}"),
    ("fdsr_photographs", "FDSR with EDSR", "ap_small", "small defects {}"),
    ("fdsr_photographs", "EDSR, pixels", "ap_small", "against {}"),
    ("fdsr_photographs", "FDSR with EDSR", "ap_medium", "medium ones {}"),
    ("fdsr_photographs", "EDSR, pixels", "ap_medium", "against {}"),
    ("fsr_gan-tt100k-gallery", "FSR-GAN, no critic", "4x", "{}, raw"),
    ("fsr_gan-tt100k-gallery", "raw", "4x", "raw {}"),
    ("fsr_gan-tt100k-gallery", "ridge", "4x", "ridge regression {}"),
    ("search", "super-resolve, residual 1024, 1280, batch 1", "ms", "{} ms per query"),
]
"""Result file, row and column of every number in the README, and the words around it."""


@pytest.mark.parametrize("table", [0, 1])
@pytest.mark.parametrize(("level", "score", "time"), [("nearest+guided", 0.1, "2.1x"), ("2x image", None, "4.1x")])
def test_the_readme_has_the_rows_of_the_level_on_coco(table, level, score, time):
    result = json.loads((ROOT / "benchmarks" / "results" / "coco_level.json").read_text())
    rows = [row for row in result["tables"][table]["rows"] if row["level"] == level]
    (row,) = [row for row in rows if row.get("windows above score") == score]
    differences = " | ".join(row[f"{name} - plain"] for name in ("ap", "ap_small", "ap_medium", "ap_large"))
    assert f"| {differences} | {time} |" in (ROOT / "README.md").read_text()
    name = "nearest+guided, windows above 0.1" if score else level
    assert time == f"{recorded('coco_level_time', name)['x plain']:.1f}x"


def recorded(name: str, row: str) -> dict:
    """The row of the first table of a result whose first column is ``row``."""
    rows = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())["tables"][0]["rows"]
    return next(cells for cells in rows if next(iter(cells.values())) == row)


@pytest.mark.parametrize(("name", "row", "column", "words"), MEASURED)
def test_the_numbers_of_the_readme_are_the_recorded_ones(name, row, column, words):
    assert words.format(recorded(name, row)[column]) in PAGES[0].read_text()


@pytest.mark.parametrize(
    ("rows", "ratios"),
    [
        (("FPN, 2x image, longer training", "FPN, 2x image, longer training"), "3.8x, 2.7x"),
        (("EFPN, ftt", "EFPN, ftt"), "2.3x, 1.8x"),
        (("FPN, 2x image", "FPN, 2x image"), "3.7x, 2.8x"),
        (("FPN, slices of 200 px, 2x (SAHI)", "FPN, slices of 80 px, 2x (SAHI)"), "8.7x, 10.6x"),
        (("FPN, longer training", "FPN, longer training"), "1.0x, 1.0x"),
    ],
)
def test_the_latencies_of_the_readme_are_ratios_of_the_recorded_ones(rows, ratios):
    names = ("efpn_gtsdb_start4", "efpn_both_sizes_start2")
    measured = [recorded(name, row)["ms"] / recorded(name, "FPN")["ms"] for name, row in zip(names, rows, strict=True)]
    assert ", ".join(f"{ratio:.1f}x" for ratio in measured) == ratios
    assert f"| {ratios} |" in PAGES[0].read_text()
