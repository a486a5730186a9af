import pytest
from jinja2 import UndefinedError

from featlift.report.templates import load_template


def test_values_are_escaped_and_undefined_ones_refused():
    template = load_template("summary.html")
    page = template.render(title="<b>", introduction="", sections=[], colors=[])
    assert "&lt;b&gt;" in page
    assert "<b>" not in page
    with pytest.raises(UndefinedError):
        template.render(title="", introduction="")


def test_the_pages_share_their_style():
    style = load_template("macros.html").module.style()
    assert "<style>" in style
    assert style in load_template("summary.html").render(title="", introduction="", sections=[], colors=[])
