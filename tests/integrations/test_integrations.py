"""The package never imports Ultralytics (AGPL-3.0): only names that the user gives. It imports YOLOX (Apache-2.0), when it is used."""

import ast
from pathlib import Path

import featlift.integrations

SOURCE = Path(featlift.integrations.__file__).parents[1]


def test_no_library_of_others_is_imported_by_a_statement():
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.partition(".")[0] in ("ultralytics", "libreyolo", "rfdetr")], (
                path
            )
