import pytest

from featlift.deployment.search_options import SearchOptions


@pytest.mark.parametrize(
    ("options", "message"),
    [({"expand": -1}, "--expand"), ({"scales": ()}, "--scales"), ({"scales": (0.0,)}, "--scales")],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SearchOptions(**options)
