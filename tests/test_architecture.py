"""The rules of `docs/design.md`, checked on the syntax trees. Each message says what to do."""

import ast
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "featlift"
FILES = {str(path.relative_to(PACKAGE)): path for path in sorted(PACKAGE.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text()) for name, path in FILES.items()}
MODULES = {f"featlift.{name.removesuffix('.py').replace('/', '.').removesuffix('.__init__')}": name for name in FILES}
MODULES["featlift"] = MODULES.pop("featlift.__init__")
EVERY_FILE = pytest.mark.parametrize("name", TREES)

Function = ast.FunctionDef | ast.AsyncFunctionDef
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def package_of(name: str) -> str:
    """The package (or root module) that a file belongs to: ``data/coco.py`` → "data", ``losses.py`` → "losses"."""
    return Path(name).parts[0].removesuffix(".py")


def imported(tree: ast.AST) -> Iterator[str]:
    """Full names of everything imported anywhere in ``tree``, inside functions too."""
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
    """Public functions, classes and methods with their names; a protocol documents its members itself."""
    for node in tree.body:
        if isinstance(node, Definition) and not node.name.startswith("_"):
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef) and "Protocol" not in map(ast.unparse, node.bases):
                yield from public(node, f"{prefix}{node.name}.")


def functions(tree: ast.AST) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


# ---------------------------------------------------------------------------------------------------- 1 imports point down

FLOORS: list[set[str]] = [
    {"features", "resolution", "registry", "device"},
    {"profiling"},
    {"checkpoints"},
    {"data", "evaluation", "training"},
    {"interpolators", "discriminators", "losses", "backbones", "image_sr"},
    {"pyramids"},
    {"detectors", "retrieval"},
    {"conversion", "upgrading", "distillation", "integrations"},
    {"baseline", "report", "deployment"},
    {"runs"},
    {"papers"},
    {"experiments"},
    {"commands"},
    {"cli", "__main__", "__init__"},
]
"""Packages from the ground up. A package may import its own floor and those below."""

PARTS = {
    "interpolators",
    "discriminators",
    "losses",
    "backbones",
    "image_sr",
    "pyramids",
    "detectors",
    "retrieval",
    "conversion",
    "upgrading",
}
NOT_FOR_PARTS = {"data", "evaluation", "training"}
"""Layers, detectors and indexes are plain PyTorch: they know neither datasets nor metrics nor training."""


def floor_of(package: str) -> int:
    return next((i for i, floor in enumerate(FLOORS) if package in floor), -1)


@EVERY_FILE
def test_imports_point_down(name):
    own = package_of(name)
    assert floor_of(own) >= 0, f"'{own}' has no floor: add it to FLOORS and to docs/design.md"
    used = {full.split(".")[1] for full in imported(TREES[name]) if full.startswith("featlift.")} - {own}
    above = {package for package in used if floor_of(package) > floor_of(own)}
    assert not above, f"{name} imports {sorted(above)} from a floor above '{own}'"
    if own in PARTS:
        assert not used & NOT_FOR_PARTS, f"{name} is a part and imports {sorted(used & NOT_FOR_PARTS)}"


def imported_files(name: str) -> set[str]:
    """Files of the package that a file imports, lazily or not: the module itself, or the package that holds the name."""
    found = set()
    for full in imported(TREES[name]):
        while full.startswith("featlift") and full not in MODULES:
            full = full.rpartition(".")[0]
        if full in MODULES:
            found.add(MODULES[full])
    return found - {name}


def test_no_file_imports_itself_through_others():
    """Also through imports inside functions: a circle is one idea in two files, or two ideas in one."""
    from graphlib import CycleError, TopologicalSorter

    try:
        tuple(TopologicalSorter({name: imported_files(name) for name in TREES}).static_order())
    except CycleError as error:
        pytest.fail(f"circle of imports: {' → '.join(error.args[1])}")


BY_NAME = {"__init__.py", "cli/main.py", "checkpoints/parts.py", "integrations/by_name.py"}
"""The files that import what they are asked for: the front door, the command line, and the reader of module files, which rebuilds
a module from the class name in the file and so depends on no module itself;
and the builder of networks of other libraries, ``library:name``."""


@EVERY_FILE
def test_modules_are_not_imported_by_string(name):
    used = [ast.unparse(node.func) for node in ast.walk(TREES[name]) if isinstance(node, ast.Call)]
    there = [call for call in used if call.endswith(("import_module", "__import__"))]
    assert not there or name in BY_NAME, f"{name}: import it by a statement, so that the import can be seen"


# ---------------------------------------------------------------------------------------------------- 2 parts and papers


@pytest.mark.parametrize("name", [name for name in TREES if package_of(name) in ("papers", "baseline")])
def test_papers_define_no_layer(name):
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.ClassDef):
            bases = [ast.unparse(base) for base in node.bases]
            assert not [base for base in bases if base.endswith("Module")], f"{node.name} is a layer: make it a part"
            assert "forward" not in [function.name for function in functions(node)], f"{node.name} has a forward"


@pytest.mark.parametrize("place", ["src/featlift/papers", "docs/papers", "tests/papers", "benchmarks/papers"])
def test_a_paper_is_in_four_places(place):
    from featlift.papers.registry import PAPERS

    papers = {name.replace("-", "_") for name in PAPERS} - {"baseline"}
    there = {path.stem for path in (ROOT / place).iterdir()}
    assert papers <= there, f"{place} has nothing for {sorted(papers - there)}"


# ---------------------------------------------------------------------------------------------------- 3 owners of packages

OWNERS = {("timm",): "backbones", ("torch.distributed",): "training"}
EXTRAS = {
    "torch.utils.tensorboard": "tracking",
    "tensorboard": "tracking",
    "wandb": "wandb",
    "mlflow": "mlflow",
    "piq": "metrics",
    "spandrel": "sr",
    "faiss": "retrieval",
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
    assert not there or package_of(name) == OWNERS[packages], f"only {OWNERS[packages]} may import {packages[0]}"


@EVERY_FILE
def test_heavy_packages_are_imported_where_they_are_used(name):
    early = [full for full in at_import_time(TREES[name]) if is_from(full, HEAVY)]
    assert not early, f"import {early} inside the function that needs it"


@EVERY_FILE
def test_the_error_for_a_missing_optional_package_names_its_extra(name):
    for package, extra in EXTRAS.items():
        if any(is_from(full, (package,)) for full in imported(TREES[name])):
            assert f"featlift[{extra}]" in FILES[name].read_text(), (
                f"{name} needs {package}: the error without it must say pip install 'featlift[{extra}]'"
            )


def modules_after(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT / "src")
    return set(done.stdout.split())


def test_importing_featlift_is_light():
    heavy = {package.partition(".")[0] for package in HEAVY} | {"torch"}
    assert not modules_after("import featlift") & heavy


def test_the_command_line_starts_without_torch():
    assert "torch" not in modules_after("import featlift.cli.main")


# ---------------------------------------------------------------------------------------------------- 4 tests and docstrings


def own_test(name: str) -> Path:
    """``a/b.py`` → ``tests/a/test_b.py``; a package's own functions are tested in ``tests/a/test_a.py``."""
    path = Path(name)
    stem = (path.parent.name or "featlift") if path.stem == "__init__" else path.stem
    return ROOT / "tests" / path.parent / f"test_{stem}.py"


@EVERY_FILE
def test_every_file_has_its_test(name):
    defines = any(isinstance(node, Definition) for node in TREES[name].body)
    whole_paper = ROOT / "tests" / Path(name).parent / "test_training.py"
    settings = Path(name).name == "settings.py" and whole_paper.is_file()
    if defines and not settings and not own_test(name).is_file():
        pytest.fail(f"{name} needs {own_test(name).relative_to(ROOT)}")


@EVERY_FILE
def test_everything_public_has_a_docstring(name):
    tree = TREES[name]
    assert ast.get_docstring(tree) or not tree.body, f"{name} has no docstring"
    silent = [full for full, node in public(tree) if not ast.get_docstring(node)]
    assert not silent, f"without a docstring: {silent}"


@EVERY_FILE
def test_every_forward_documents_its_shapes(name):
    for function in functions(TREES[name]):
        if function.name == "forward":
            assert "[" in (ast.get_docstring(function) or ""), (
                f"line {function.lineno}: forward needs shapes, [B, C, H, W]"
            )


# ---------------------------------------------------------------------------------------------------- 5 sizes

MAX_FILE_LINES, MEDIAN_FILE_LINES = 250, 110
MAX_FUNCTION_LINES, P90_FUNCTION_LINES, MEDIAN_FUNCTION_LINES = 45, 20, 8
MAX_PARAMETERS = 8
MAX_ROOT_FILES = 7


def file_lines(name: str) -> int:
    return len(FILES[name].read_text().splitlines())


def function_lines(function: Function) -> int:
    """Lines without the docstring and decorators."""
    docstring = function.body[0] if ast.get_docstring(function) else None
    documented = docstring.end_lineno - docstring.lineno + 1 if docstring else 0
    return function.end_lineno - function.lineno + 1 - documented


FUNCTION_LINES = [function_lines(function) for tree in TREES.values() for function in functions(tree)]


@EVERY_FILE
def test_files_hold_one_idea(name):
    assert file_lines(name) <= MAX_FILE_LINES, f"{name} holds two ideas: {file_lines(name)} lines"


@EVERY_FILE
def test_functions_are_short_and_take_few_parameters(name):
    for function in functions(TREES[name]):
        assert function_lines(function) <= MAX_FUNCTION_LINES, f"{function.name} has {function_lines(function)} lines"
        parameters = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
        number = len([parameter for parameter in parameters if parameter.arg not in ("self", "cls")])
        assert number <= MAX_PARAMETERS, f"{function.name} takes {number} parameters"


def test_the_numbers_of_the_package(record_property):
    """Printed with ``pytest -s`` and by ``make lint``."""
    files, lines = sorted(map(file_lines, FILES)), sorted(FUNCTION_LINES)
    numbers = {
        "files": len(files),
        "lines": sum(files),
        "file median": statistics.median(files),
        "longest file": files[-1],
        "functions": len(lines),
        "function median": statistics.median(lines),
        "function p90": lines[int(0.9 * len(lines))],
        "longest function": lines[-1],
        "root files": len(list(PACKAGE.glob("*.py"))),
    }
    print("\n" + ", ".join(f"{name} {number:g}" for name, number in numbers.items()))
    assert numbers["file median"] <= MEDIAN_FILE_LINES
    assert numbers["function median"] <= MEDIAN_FUNCTION_LINES
    assert numbers["function p90"] <= P90_FUNCTION_LINES
    assert numbers["root files"] <= MAX_ROOT_FILES


# ---------------------------------------------------------------------------------------------------- 6 names

ONE_PROTOCOL = {"train", "Settings"}
"""Names that every paper defines with the same meaning."""


def test_no_public_name_has_two_homes():
    homes = defaultdict(list)
    for name, tree in TREES.items():
        for node in tree.body:
            if isinstance(node, Definition) and not node.name.startswith("_"):
                homes[node.name].append(name)
    twice = {name: files for name, files in homes.items() if len(files) > 1 and name not in ONE_PROTOCOL}
    assert not twice, f"one name, one meaning: {twice}"


@EVERY_FILE
def test_names_are_specific(name):
    assert Path(name).stem not in ("utils", "util", "helpers", "misc", "common"), f"{name}: name the idea"
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.ClassDef):
            vague = node.name.startswith("Base") or node.name.endswith(("Manager", "Helper", "Utils"))
            assert not vague, f"{node.name}: name the idea"
