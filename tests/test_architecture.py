"""The laws of `docs/design.md`, kept by reading the syntax trees. Each message says what to do."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HOUSE = ROOT / "src" / "featlift"
FILES = {str(path.relative_to(HOUSE)): path for path in sorted(HOUSE.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text()) for name, path in FILES.items()}
EVERY_FILE = pytest.mark.parametrize("name", TREES)

Function = ast.FunctionDef | ast.AsyncFunctionDef
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def unit(name: str) -> str:
    """The room of the house a file belongs to: ``data/coco.py`` → "data", ``losses.py`` → "losses"."""
    return Path(name).parts[0].removesuffix(".py")


def imported(tree: ast.AST) -> Iterator[str]:
    """Full names of everything imported anywhere in ``tree``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import: write it out in full"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def at_import_time(tree: ast.Module) -> Iterator[str]:
    """What is imported when the file is, i.e. outside functions and ``if TYPE_CHECKING``."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, Function) or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)):
            continue
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from imported(node)
        waiting.extend(ast.iter_child_nodes(node))


def is_from(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def public(tree: ast.Module | ast.ClassDef, prefix: str = "") -> Iterator[tuple[str, Definition]]:
    """Public functions, classes and methods with their names; what a protocol asks for is said by the protocol."""
    for node in tree.body:
        if isinstance(node, Definition) and not node.name.startswith("_"):
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef) and "Protocol" not in map(ast.unparse, node.bases):
                yield from public(node, f"{prefix}{node.name}.")


def functions(tree: ast.AST) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


# ---------------------------------------------------------------------------------------------------- 1 imports point down

GROUND = {"features", "resolution", "arguments", "glimpses", "unpooled"}
PLAIN = {"interpolators", "critics", "losses", "image_sr", "backbones"}
BESIDE = {"data", "evaluation", "training", "checkpoints"}
ASSEMBLED = {"detectors", "retrieval", "upgrade", "upgrading", "importing"}
PARTS = PLAIN | {"pyramids"} | ASSEMBLED
ABOVE = {"papers", "views", "export", "fastest", "report", "gallery", "enlarge", "two_step", "rivals"}
DOORS = {"__init__", "__main__", "cli", "commands"}

MAY_IMPORT: dict[str, set[str]] = {
    **dict.fromkeys(GROUND, GROUND),
    **dict.fromkeys(BESIDE, GROUND | BESIDE),
    **dict.fromkeys(PLAIN, GROUND | {"checkpoints"}),
    "pyramids": GROUND | PLAIN | {"checkpoints"},
    **dict.fromkeys(ASSEMBLED, GROUND | PARTS | {"checkpoints"}),
    **dict.fromkeys(ABOVE, GROUND | PARTS | BESIDE | ABOVE),
    **dict.fromkeys(DOORS, GROUND | PARTS | BESIDE | ABOVE | DOORS),
}


@EVERY_FILE
def test_imports_point_down(name):
    room = unit(name)
    assert room in MAY_IMPORT, f"'{room}' has no place in the import table: add it here and to docs/design.md"
    inner = {full.split(".")[1] for full in imported(TREES[name]) if full.startswith("featlift.")}
    wrong = inner - MAY_IMPORT[room] - {room}
    assert not wrong, f"{name} imports {sorted(wrong)}; '{room}' may import {sorted(MAY_IMPORT[room])}"


# ---------------------------------------------------------------------------------------------------- 2 parts and papers


@pytest.mark.parametrize("name", [name for name in TREES if unit(name) == "papers"])
def test_papers_define_no_layer(name):
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.ClassDef):
            bases = [ast.unparse(base) for base in node.bases]
            assert not [base for base in bases if base.endswith("Module")], f"{node.name} is a layer: make it a part"
            assert "forward" not in [function.name for function in functions(node)], f"{node.name} has a forward"


# ---------------------------------------------------------------------------------------------------- 3 whose package is whose

OWNERS = {("timm",): "backbones", ("torch.distributed",): "training"}
EXTRAS = {
    "torch.utils.tensorboard": "tracking",
    "tensorboard": "tracking",
    "piq": "metrics",
    "spandrel": "sr",
    "faiss": "retrieval",
    "sahi": "sliced",
    "onnx": "export",
    "onnxscript": "export",
    "onnxruntime": "export",
    "openvino": "openvino",
}
HEAVY = ("timm", "matplotlib", "hotcoco", "jinja2", "pycocotools", "huggingface_hub", *EXTRAS)


@EVERY_FILE
@pytest.mark.parametrize("packages", OWNERS, ids=lambda packages: packages[0])
def test_only_its_owner_imports_it(packages, name):
    there = [full for full in imported(TREES[name]) if is_from(full, packages)]
    assert not there or unit(name) == OWNERS[packages], f"only {OWNERS[packages]} may import {packages[0]}; ask it"


@EVERY_FILE
def test_heavy_packages_are_imported_where_they_are_used(name):
    early = [full for full in at_import_time(TREES[name]) if is_from(full, HEAVY)]
    assert not early, f"import {early} inside the function that needs it"


@EVERY_FILE
def test_an_optional_package_is_asked_for_by_the_name_of_its_extra(name):
    for package, extra in EXTRAS.items():
        if any(is_from(full, (package,)) for full in imported(TREES[name])):
            assert f"featlift[{extra}]" in FILES[name].read_text(), (
                f"{name} needs {package}: its absence must be told as pip install 'featlift[{extra}]'"
            )


def modules_after(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT / "src")
    return set(done.stdout.split())


def test_the_front_door_is_light():
    heavy = {package.partition(".")[0] for package in HEAVY} - {"torch"}
    assert not modules_after("import featlift") & heavy


def test_the_command_line_starts_without_torch():
    if "cli.py" in FILES:
        assert "torch" not in modules_after("import featlift.cli.main")


# ---------------------------------------------------------------------------------------------------- 4 every file has its test


def own_test(name: str) -> Path:
    """``a/b.py`` → ``tests/a/test_b.py``; a package's own functions are tested in ``tests/a/test_a.py``."""
    path = Path(name)
    stem = (path.parent.name or "featlift") if path.stem == "__init__" else path.stem
    return ROOT / "tests" / path.parent / f"test_{stem}.py"


@EVERY_FILE
def test_every_file_has_its_test(name):
    defines = any(isinstance(node, Definition) for node in TREES[name].body)
    if defines and not own_test(name).is_file():
        pytest.fail(f"{name} needs {own_test(name).relative_to(ROOT)}")


def stems(folder: str, pattern: str) -> set[str]:
    return {path.stem.removeprefix("test_") for path in (ROOT / folder).glob(pattern)} - {"__init__", "baseline"}


PLACES = {
    "src/featlift/papers": "*.py",
    "docs/papers": "*.md",
    "tests/papers": "test_*.py",
    "benchmarks/papers": "*.toml",
}


@pytest.mark.parametrize("place", PLACES)
def test_a_paper_is_in_four_places(place):
    everywhere = set().union(*(stems(*other) for other in PLACES.items()))
    missing = everywhere - stems(place, PLACES[place])
    assert not missing, f"{place} has nothing for {sorted(missing)}"


# ---------------------------------------------------------------------------------------------------- 5 everything says what it is


@EVERY_FILE
def test_everything_public_has_a_docstring(name):
    tree = TREES[name]
    assert ast.get_docstring(tree) or not tree.body, f"{name} does not say what it is"
    silent = [full for full, node in public(tree) if not ast.get_docstring(node)]
    assert not silent, f"without a docstring: {silent}"


@EVERY_FILE
def test_every_forward_says_its_shapes(name):
    for function in functions(TREES[name]):
        if function.name == "forward":
            assert "[" in (ast.get_docstring(function) or ""), (
                f"line {function.lineno}: forward must say shapes, [B, C, H, W]"
            )


# ---------------------------------------------------------------------------------------------------- 6 sizes and names

MOST_LINES = 300
MOST_LINES_OF_A_FUNCTION = 60
MOST_PARAMETERS = 8


def written_lines(name: str) -> int:
    """Lines of a file that are neither blank nor docstring."""
    tree, lines = TREES[name], FILES[name].read_text().splitlines()
    told = set()
    for node in ast.walk(tree):
        if isinstance(node, Definition | ast.Module) and ast.get_docstring(node):
            told |= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return sum(bool(line.strip()) and number not in told for number, line in enumerate(lines, 1))


@EVERY_FILE
def test_files_hold_one_idea(name):
    assert written_lines(name) <= MOST_LINES, f"{name} holds two ideas: {written_lines(name)} lines"


@EVERY_FILE
def test_functions_are_short_and_take_few_things(name):
    for function in functions(TREES[name]):
        lines = function.end_lineno - function.lineno + 1
        assert lines <= MOST_LINES_OF_A_FUNCTION, f"{function.name} has {lines} lines"
        taken = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
        number = len([argument for argument in taken if argument.arg not in ("self", "cls")])
        assert number <= MOST_PARAMETERS, f"{function.name} takes {number} things"


@EVERY_FILE
def test_names_say_what_things_are(name):
    assert Path(name).stem not in ("utils", "util", "helpers", "misc", "common"), f"{name}: name the idea"
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.ClassDef):
            vague = node.name.startswith("Base") or node.name.endswith(("Manager", "Helper", "Utils"))
            assert not vague, f"{node.name}: name the idea"
