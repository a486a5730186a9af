"""Link the symbols in the tables of ``docs/papers/*.md`` to their definitions: ``python docs/link_equations.py``.

A symbol is a full dotted path in code marks, such as ``featlift.losses.pyramid_l1``. In tables it gets a link to its file and line;
everywhere the path of a symbol that has moved to another module is updated. ``tests/test_docs.py`` fails if a link is outdated. On the
site, `site_hooks` replaces the links by links to the API reference.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

DOCS = Path(__file__).parent
SOURCE = DOCS.parent / "src"
PAGES = sorted(DOCS.rglob("*.md"))
TABLE_HEADER = re.compile(r"\| \w+ \| what \| code \|")
SYMBOL = re.compile(r"\[?`(featlift(?:\.\w+){2,})`(?:\]\(([^)]*)\))?")

Definition = ast.FunctionDef | ast.ClassDef


def find_definition(symbol: str) -> tuple[Path, int]:
    """Return the file and the line that define ``symbol``: a module, or a class, function or constant of one (not an import).

    Raises:
        LookupError: If there is no such definition.
    """
    path, names = _split_module(symbol)
    body, line = _parse(path).body, 1
    for name in names:
        node = next((node for node in body if name in _defined_names(node)), None)
        if node is None:
            raise LookupError(f"{symbol}: {path.relative_to(SOURCE)} defines no '{name}'.")
        body, line = getattr(node, "body", []), node.lineno
    return path, line


def _split_module(symbol: str) -> tuple[Path, list[str]]:
    """Return the file of the longest prefix of ``symbol`` that is a module, and the other names."""
    parts = symbol.split(".")
    for count in range(len(parts), 0, -1):
        module = SOURCE.joinpath(*parts[:count])
        for path in (module.with_suffix(".py"), module / "__init__.py"):
            if path.is_file():
                return path, parts[count:]
    raise LookupError(f"{symbol}: there is no such module.")


@cache
def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _defined_names(node: ast.stmt) -> list[str]:
    if isinstance(node, Definition):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def current_path(symbol: str) -> str:
    """Return ``symbol``, or the path of the only class or function of that name if it has moved to another module.

    Raises:
        LookupError: If there is none, or more than one.
    """
    try:
        find_definition(symbol)
    except LookupError:
        candidates = _moved_symbols(symbol)
        if len(candidates) != 1:
            raise
        return candidates[0]
    return symbol


def _moved_symbols(symbol: str) -> list[str]:
    """Return the paths of all definitions named as the end of ``symbol``: ``Class.method``, ``Class`` or ``function``."""
    parts = symbol.split(".")
    first_class = next((i for i, part in enumerate(parts) if part[0].isupper()), len(parts) - 1)
    return [
        ".".join([*path.relative_to(SOURCE).with_suffix("").parts, *parts[first_class:]]).replace(".__init__", "")
        for path in sorted(SOURCE.rglob("*.py"))
        if any(isinstance(node, Definition) and node.name == parts[first_class] for node in _parse(path).body)
    ]


def format_link(symbol: str, page: Path) -> str:
    """Return the Markdown link of ``symbol`` to its file and line, relative to ``page``."""
    path, line = find_definition(symbol)
    up = "../" * len(page.relative_to(DOCS.parent).parent.parts)
    return f"[`{symbol}`]({up}{path.relative_to(DOCS.parent).as_posix()}#L{line})"


def link_symbols(text: str, page: Path) -> str:
    """Return the text of ``page`` with current paths of all symbols, and links of those in tables.

    Raises:
        LookupError: If a symbol does not exist.
    """

    def link(match: re.Match[str]) -> str:
        return format_link(current_path(match[1]), page)

    def rename(match: re.Match[str]) -> str:
        return match[0].replace(match[1], current_path(match[1]))

    lines = text.split("\n")
    return "\n".join(SYMBOL.sub(link if line.startswith("|") else rename, line) for line in lines)


def equation_rows(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the first cell and the symbols of every row of the page's table of equations."""
    lines = text.split("\n")
    start = next(i for i, line in enumerate(lines) if TABLE_HEADER.fullmatch(line))
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            return
        yield line.split("|")[1].strip(), [match[1] for match in SYMBOL.finditer(line)]


def main() -> None:
    """Rewrite the pages; name the symbols that do not exist."""
    problems = []
    for page in PAGES:
        try:
            text = page.read_text(encoding="utf-8")
            linked = link_symbols(text, page)
            if linked != text:
                page.write_text(linked, encoding="utf-8")
        except LookupError as error:
            problems.append(f"{page.relative_to(DOCS)}: {error}")
    if problems:
        raise SystemExit("\n".join(problems))


if __name__ == "__main__":
    main()
