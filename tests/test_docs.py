"""The pages below ``docs``: the rows of the equation tables run in training or evaluation, options exist, the site builds.

`test_readme` runs the Python and parses the commands of all pages.
"""

import ast
import cProfile
import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image
from torch import nn

from featlift.cli import main
from featlift.cli.hints import OPTION_HABITS
from featlift.cli.option_table import load_option_table
from featlift.data.synthetic.landmarks import write_synthetic_landmarks

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
PAPERS = ("afi_gan", "srf_gan", "efpn", "fdsr", "fsr_gan", "light")
EQUATIONS = {"afi_gan": 7, "srf_gan": 3, "efpn": 9, "fdsr": 4, "fsr_gan": 9, "light": 0}
"""Number of numbered equations of each paper."""


def load_script(path: Path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


LINKS = load_script(DOCS / "link_equations.py")


def names(pages: Iterable[Path]) -> list:
    return [pytest.param(page, id=page.relative_to(DOCS).as_posix()) for page in pages]


# ---------------------------------------------------------------------------------------------------- symbols and equations


@pytest.mark.parametrize("page", names(PAGES))
def test_symbols_exist_and_links_point_to_their_definitions(page):
    text = page.read_text()
    for symbol in LINKS.SYMBOL.findall(text):
        LINKS.find_definition(symbol[0])
    assert LINKS.link_symbols(text, page) == text, "run `make docs`"


@pytest.mark.parametrize("paper", [paper for paper in PAPERS if paper != "light"])
def test_every_test_of_a_checklist_exists(paper):
    found = re.findall(r"\| ✓ \| `([\w/]+\.py)::(\w+)` \|", (DOCS / "papers" / f"{paper}.md").read_text())
    assert len(found) >= 8
    for file, name in found:
        assert f"def {name}(" in (ROOT / "tests" / file).read_text(), (file, name)


@pytest.mark.parametrize("paper", PAPERS)
def test_every_equation_of_the_paper_has_a_row(paper):
    rows = list(LINKS.equation_rows((DOCS / f"papers/{paper}.md").read_text()))
    assert all(symbols for _, symbols in rows), f"without code: {[cell for cell, symbols in rows if not symbols]}"
    listed = {int(number) for cell, _ in rows for number in re.findall(r"Eq\. \((\d+)\)", cell)}
    assert listed == set(range(1, EQUATIONS[paper] + 1))


def test_equations_are_written_in_one_way():
    """``Eq. (1)`` or ``Eqs. (1) to (3)``, with the number in parentheses."""
    wrong = {page.name: re.findall(r"\bEqs?\.? ?\d+", page.read_text()) for page in PAGES}
    assert not {name: found for name, found in wrong.items() if found}


class Trace:
    """Context that collects the first lines of all functions of FeatLift that are called, by file."""

    def __init__(self) -> None:
        self.called: set[tuple[str, int]] = set()
        self._profile = cProfile.Profile(builtins=False)  # much faster than sys.settrace with a function in Python

    def __enter__(self) -> "Trace":
        self._profile.enable()
        return self

    def __exit__(self, *error: object) -> None:
        self._profile.disable()
        codes = [entry.code for entry in self._profile.getstats()]
        self.called |= {(code.co_filename, code.co_firstlineno) for code in codes if not isinstance(code, str)}

    def has(self, symbol: str) -> bool:
        """Whether the function was called; of a class, any function in its body (the body itself runs at import)."""
        path, line = LINKS.find_definition(symbol)
        node = next(
            node
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.lineno == line
        )
        if isinstance(node, ast.ClassDef):
            return any(file == str(path) and line < start <= node.end_lineno for file, start in self.called)
        return (str(path), min([line, *(decorator.lineno for decorator in node.decorator_list)])) in self.called


TINY_HEAD = '\'{"anchor_scale": 4.0, "fc_dim": 16, "num_proposals": 20, "max_detections": 3}\''
FEW = "--model.detector-options '{\"max_detections\": 3}'"
TINY = "--preset quick --model.backbone test_resnet --device cpu --data.batch-size 2 --model.pyramid-channels 8"
STAGES = "--teacher.steps 1 --interpolator.steps 1 --extractor.steps 1 --target.steps 1 --adversarial.width 1"
AFI = f"train afi-gan {TINY} {STAGES} --data {{coco}}"
AFI_BLOCKS = '--model.interpolator-options \'{"growth_rate": 4, "num_blocks": 1}\''
SRF_BLOCKS = "--model.interpolator-options '{\"num_blocks\": 1}'"
EFPN = (
    f"train efpn {TINY} --data {{tt100k}} --data.min-size 64 --model.detector-options {TINY_HEAD} --detector.steps 1 "
    "--extension.steps 1 --head.steps 1 --class-balance.min-per-class 100 --class-balance.crop-size 48"
)
FSR = (
    "train fsr-gan --device cpu --data {places} --collection.train-images {known} --embedder.cache-folder {out}/cache "
    "--steps 2 --batch-size 4 --ratios 1,4 --adversarial.n-critic 1"
)

COMMANDS: dict[str, list[str]] = {
    "afi_gan": [
        f"{AFI} {AFI_BLOCKS} --model.detector-options {TINY_HEAD} --run {{out}}/afi",
        f"{AFI} {AFI_BLOCKS} --model.detector-options {TINY_HEAD} --level-matching different --model.pyramid fpn-no-lateral "
        "--stop-after extractor --teacher-from {out}/afi/teacher.safetensors --interpolator-from {out}/afi --run {out}/different",
        f"{AFI} {AFI_BLOCKS} --model.detector-options {TINY_HEAD} --model.detector mask-rcnn --model.pyramid pafpn "
        "--reuse none --run {out}/mask",
        f"{AFI} {AFI_BLOCKS} --model.detector retinanet {FEW} --model.pyramid bifpn --reuse none --run {{out}}/retinanet",
        f"{AFI} {SRF_BLOCKS} --model.interpolator afi-rb --model.detector fcos {FEW} --reuse none --run {{out}}/fcos",
        f"{AFI} {AFI_BLOCKS} --model.detector centermask {FEW} --reuse none --run {{out}}/centermask",
    ],
    "srf_gan": [
        f"train srf-gan {TINY} {STAGES} --data {{coco}} {SRF_BLOCKS} --model.detector-options {TINY_HEAD} --run {{out}}/srf"
    ],
    "efpn": [
        f"{EFPN} --extended-level.transfer-options '{{{{\"hidden_channels\": 4}}}}' --run {{out}}/efpn",
        "evaluate {out}/efpn --device cpu",
        *(
            f"{EFPN} --extended-level.transfer {name} --extended-level.transfer-options '{{{{}}}}' "
            f"--detector-from {{out}}/efpn/base_detector.safetensors --run {{out}}/{name}"
            for name in ("ftt-paper", "espcn", "nearest")
        ),
    ],
    "fdsr": [
        f"train baseline {TINY} --data {{coco}} --model.detector-options {TINY_HEAD} --train.steps 1 --run {{out}}/detector",
        "train fdsr --preset quick --device cpu --data {coco} --feature-extractor.network {out}/detector --data.crop-size 64 "
        "--data.batch-size 2 --train.steps 1 --network.name d-dbpn --loss-weights.detection 0.1 --run {out}/fdsr",
        "evaluate {out}/detector --super-resolvers.fdsr {out}/fdsr --downscale 4 --device cpu --out {out}/evaluation",
    ],
    "fsr_gan": [
        f"{FSR} --embedder.encoder vgg16-fc7 --embedder.input-size 32 --generator paper --regularization.rank 0 "
        "--adversarial.kind wgan-clip --run {out}/paper",
        *(
            f"{FSR} --embedder.encoder gist --embedder.input-size 64 --hidden-dim 8 --adversarial.kind {kind} "
            f"--regularization.rank 1 --run {{out}}/{kind}"
            for kind in ("gan", "wgan-gp", "off")
        ),
        "evaluate {out}/off",
    ],
    "light": [
        f"train light {TINY} --data {{coco}} --model.detector-options {TINY_HEAD} --model.interpolator-options "
        "'{{\"hidden_channels\": 4}}' --teacher.steps 1 --interpolator.steps 1 --target.steps 1 --run {out}/light",
        f"train light {TINY} --data {{coco}} --model.detector-options {TINY_HEAD} --model.interpolator light-agnostic "
        "--teachers-from {out}/light/teacher.safetensors --interpolator.steps 1 --stop-after interpolator --run {out}/agnostic",
    ],
}
"""Paper → commands that train and evaluate it as small as possible, with everything that its table names."""


def fill(command: str, places: dict[str, Path]) -> list[str]:
    """Words of ``command``; ``{name}`` stands for a folder."""
    for name, path in places.items():
        command = command.replace(f"{{{name}}}", str(path))
    return shlex.split(command.replace("{{", "{").replace("}}", "}"))


def write_tt100k(folder: Path) -> Path:
    """20 training images and 2 test images of 64 px with signs of two classes."""
    signs = [
        {"category": name, "bbox": {"xmin": x, "ymin": 8, "xmax": x + 12, "ymax": 20}}
        for name, x in (("p5", 4), ("pl40", 40))
    ]
    images = {
        str(i): {"id": i, "path": f"{'test' if i > 20 else 'train'}/{i}.png", "objects": signs} for i in range(1, 23)
    }
    for image in images.values():
        (folder / image["path"]).parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((64, 64), 50).convert("RGB").save(folder / image["path"])
    (folder / "annotations.json").write_text(json.dumps({"imgs": images, "types": ["p5", "pl40"]}))
    return folder


@pytest.fixture(scope="module")
def folders(coco, tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("docs")
    write_synthetic_landmarks(folder / "places", num_landmarks=3, gallery_views=2, query_views=1, image_size=48)
    write_synthetic_landmarks(folder / "known", num_landmarks=4, gallery_views=2, query_views=0, image_size=48, seed=1)
    tt100k = write_tt100k(folder / "tt100k")
    return {
        "coco": coco,
        "tt100k": tt100k,
        "places": folder / "places",
        "known": folder / "known",
        "out": folder / "runs",
    }


def small_vgg16(init_weights: bool = True) -> SimpleNamespace:
    """Parts of VGG-16 with a single convolution and a narrow fc6; fc7 has its 4,096 channels."""
    layers = (nn.Linear(512 * 7 * 7, 8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 4096), nn.ReLU())
    features = nn.Sequential(nn.Conv2d(3, 512, 32, stride=32), nn.ReLU())
    return SimpleNamespace(features=features, avgpool=nn.AdaptiveAvgPool2d(7), classifier=nn.Sequential(*layers))


@pytest.mark.parametrize("paper", PAPERS)
def test_every_row_is_on_the_path_of_training_or_evaluation(paper, folders, monkeypatch):
    monkeypatch.setattr("torchvision.models.vgg16", small_vgg16)
    with Trace() as trace:
        for command in COMMANDS[paper]:
            assert main.main(fill(command, folders)) == 0, command
    rows = LINKS.equation_rows((DOCS / f"papers/{paper}.md").read_text())
    missing = {cell: [symbol for symbol in symbols if not trace.has(symbol)] for cell, symbols in rows}
    assert not {cell: symbols for cell, symbols in missing.items() if symbols}


def test_a_row_outside_of_the_path_would_be_noticed():
    with Trace() as trace:
        load_option_table("predict").flags()
    assert trace.has("featlift.cli.option_table.OptionTable.flags")
    assert trace.has("featlift.cli.option_table.OptionTable")
    assert not trace.has("featlift.cli.option_table.OptionTable.find")
    assert not trace.has("featlift.losses.pyramid_l1")


# ---------------------------------------------------------------------------------------------------- options and Python

OPTION = re.compile(r"(?<![\w-])--([a-z][\w-]*(?:\.[\w-]+)*)")
INLINE_CODE = re.compile(r"`([^`\n]+)`")
GENERIC = {"help", "help-all"}
OTHER_PROGRAMS = ("torchrun", "python", "pip", "chroma", "mkdocs", "mlflow", "tensorboard", "#SBATCH")


@cache
def all_options() -> frozenset[str]:
    """All options of all commands, as they are typed."""
    from featlift.cli.options import list_commands
    from featlift.cli.verbs import PAPERS as TRAINABLE

    commands = [*(name for name, _ in list_commands()), *(f"train {paper}" for paper in TRAINABLE)]
    return frozenset(option for command in commands for option in load_option_table(command).flags())


def named_options(page: Path) -> Iterator[str]:
    """Options in the inline code of a page, outside of the blocks, which `test_readme` parses."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"<!-- results:.*?<!-- end of results:[^>]*-->", "", text, flags=re.DOTALL)
    for code in INLINE_CODE.findall(text):
        if not code.startswith(OTHER_PROGRAMS):
            yield from OPTION.findall(code)


def is_option(name: str) -> bool:
    if f"--{name}" in all_options() or name in GENERIC | {"data", "k"}:
        return True
    return any(
        f"--{name}".startswith(f"{flag}.")
        for flag in all_options()
        if flag.endswith(("options", "super-resolvers", "class-map"))
    )


@pytest.mark.parametrize("page", names(PAGES))
def test_every_named_option_exists(page):
    """``design.md`` also names options of other libraries, which get a hint."""
    habits = {name.replace("_", "-") for name in OPTION_HABITS} if page.name == "design.md" else set()
    unknown = sorted({name for name in named_options(page) if not is_option(name)} - habits)
    assert not unknown, f"no command has {unknown}"


OTHER_OPTIONS = {
    "porcelain",
    "logdir",
    "backend-store-uri",
    "path",
    "version",
    "name",
    "name.field",
    "help_all",
    "embedder",
}
"""Options of git, trackers and servers in FeatLift's source, and placeholders."""


@pytest.mark.parametrize("folder", sorted(path.name for path in (ROOT / "src/featlift").iterdir() if path.is_dir()))
def test_every_option_named_in_a_message_exists(folder):
    unknown = set()
    for path in (ROOT / "src/featlift" / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                unknown |= {name for name in OPTION.findall(node.value) if not is_option(name)}
    assert unknown <= OTHER_OPTIONS, f"no command has {sorted(unknown - OTHER_OPTIONS)}"


def test_an_unknown_option_would_be_noticed():
    assert is_option("data.batch-size")
    assert is_option("model.interpolator-options.init")
    assert not is_option("data.batch")
    assert not is_option("data.batch_size")


# ---------------------------------------------------------------------------------------------------- the site


@pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="needs the dependency group docs")
def test_the_site_builds_without_warnings_and_loads_nothing_from_other_servers(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "site/api/pyramids.html").is_file()
    pages = [path.read_text() for path in (tmp_path / "site").rglob("*.html")]
    loaded = {
        url
        for text in pages
        for url in re.findall(r'<(?:script|link|img|iframe)\b[^>]*(?:src|href)="(https?:[^"]+)', text)
    }
    assert not loaded
