"""Griffe extension: roles of docstrings, such as :func:`~featlift.losses.pyramid_l1`, become code for the site."""

import re
from typing import Any

import griffe

ROLE = re.compile(r":\w+:`~?([^`]+)`")


class DocstringRoles(griffe.Extension):
    """Rewrite the docstring of every object that griffe reads."""

    def on_instance(self, *, obj: griffe.Object, **options: Any) -> None:
        """Replace the roles in the docstring of ``obj``."""
        if obj.docstring:
            obj.docstring.value = ROLE.sub(r"`\1`", obj.docstring.value)
