"""Hooks of the site: API pages, links from tables to the API, and copies of the linked files outside ``docs``."""

import ast
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

DOCS = Path(__file__).parent
ROOT = DOCS.parent
PACKAGE = ROOT / "src" / "featlift"
SYMBOL_LINK = re.compile(r"\[`(featlift(?:\.\w+)+)`\]\([^)]*#L\d+\)")
TEXT_SUFFIXES = (".py", ".toml", ".md")
LINK = re.compile(r"(\]\()((?:\.\./)+[^)#\s]+)(#[^)\s]*)?(\))")


def list_api_pages() -> dict[str, list[str]]:
    """Return API page → its modules: one page per package and subpackage of ``papers``, one for the public names, one for root modules."""
    pages = {"featlift": ["featlift"]}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = list(path.relative_to(PACKAGE).with_suffix("").parts)
        if parts[-1] in ("__init__", "__main__"):
            parts = parts[:-1]
        if not parts or parts[0] == "cli":
            continue
        title = ".".join(parts[:2] if parts[0] == "papers" and path.parent.parent.name == "papers" else parts[:1])
        title = title if (PACKAGE / parts[0]).is_dir() else "modules"
        pages.setdefault(title, []).append(f"featlift.{'.'.join(parts)}")
    return pages


def _format_api_page(title: str, modules: list[str]) -> str:
    heading = f"featlift.{title}" if title not in ("featlift", "modules") else _nav_title(title)
    blocks = [_format_module(module, title_is_module=module == heading) for module in modules]
    return "\n".join([f"# {heading}", "", *blocks])


def _format_module(module: str, title_is_module: bool) -> str:
    """Return the mkdocstrings block of ``module`` with its own definitions; re-exports are documented where they are defined."""
    members = [name for name in public_definitions(module) if not name.startswith("_")]
    return (
        f"::: {module}\n    options:\n      members: {members or 'false'}\n"
        f"      show_root_heading: {'false' if title_is_module else 'true'}\n"
    )


def public_definitions(module: str) -> list[str]:
    """Return the names of the functions, classes and documented constants that ``module`` defines, in order."""
    path = ROOT / "src" / Path(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    body = ast.parse(file.read_text(encoding="utf-8")).body
    return [
        name
        for node, following in zip(body, [*body[1:], None], strict=False)
        for name in _defined_names(node, following)
    ]


def _defined_names(node: ast.stmt, following: ast.stmt | None) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    is_documented = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [target.id for target in targets if is_documented and isinstance(target, ast.Name)]


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the API pages to the navigation."""
    for entry in config.nav or []:
        if "API" in entry:
            entry["API"] = [{_nav_title(title): f"api/{title}.md"} for title in list_api_pages()]
    return config


def _nav_title(title: str) -> str:
    return {"featlift": "featlift (public names)", "modules": "root modules"}.get(title, title)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the API pages and copies of all linked files outside ``docs``."""
    for title, modules in list_api_pages().items():
        files.append(File.generated(config, f"api/{title}.md", content=_format_api_page(title, modules)))
    linked = {path for page in DOCS.rglob("*.md") for path in _outside_links(page)}
    for path in sorted(linked):
        files.append(File.generated(config, _site_path(path), abs_src_path=str(path)))
    return files


def _outside_links(page: Path) -> Iterator[Path]:
    for match in LINK.finditer(SYMBOL_LINK.sub("", page.read_text(encoding="utf-8"))):
        path = (page.parent / match[2]).resolve()
        if path.is_file() and DOCS not in path.parents:
            yield path


def _site_path(path: Path) -> str:
    """Return where a file outside ``docs`` lies on the site; source files are plain text there."""
    name = path.relative_to(ROOT).as_posix()
    return f"source/{name}" + (".txt" if path.suffix in TEXT_SUFFIXES else "")


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files, **_: Any) -> str:
    """Point links of symbols to the API reference, and links out of ``docs`` to the copies."""
    source = DOCS / page.file.src_uri
    markdown = SYMBOL_LINK.sub(r"[`\1`][\1]", markdown)

    def redirect(match: re.Match[str]) -> str:
        path = (source.parent / match[2]).resolve()
        if DOCS in path.parents or not path.is_file():
            return match[0]
        target = os.path.relpath(DOCS / _site_path(path), source.parent)
        return f"{match[1]}{Path(target).as_posix()}{match[4]}"

    return LINK.sub(redirect, markdown)
