"""Bins of object sizes."""

import pytest

from featlift.data.object_sizes import area_bin_of


@pytest.mark.parametrize(
    ("side", "size"), [(15.9, "tiny"), (16, "small"), (32, "medium"), (95, "medium"), (96, "large"), (9e9, "large")]
)
def test_bins(side, size):
    assert area_bin_of(side**2) == size
