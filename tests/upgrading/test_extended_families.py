"""Which family a network belongs to."""

import pytest
from torch import nn

from featlift.upgrading.extended_families import FAMILIES, find_family


def test_a_network_belongs_to_the_first_family_that_matches(yolox):
    assert find_family(yolox).name == "YOLOX"
    assert sum(family.matches(yolox) for family in FAMILIES) == 1


def test_other_strides_and_unknown_networks_are_refused(yolox, rtdetr):
    yolox.head.strides = [4, 8, 16]
    for model in (yolox, rtdetr, nn.Linear(2, 2)):
        with pytest.raises(ValueError, match="pass the network itself"):
            find_family(model)
