"""The HTML templates of the reports."""

from typing import Any

from featlift.report.tables import format_signed_percent


def load_template(name: str) -> Any:
    """Load the Jinja template ``name`` of this package; values are escaped, and an undefined one is an error.

    ``macros.html`` has the style and the macros of all pages.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("featlift.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["signed"] = format_signed_percent
    return environment.get_template(name)
