import copy

import pytest
from torch import nn

from featlift.checkpoints.init_args import store_init_args


@store_init_args(pretrained=False)
class Part(nn.Module):
    def __init__(self, channels: int, depth: int = 3, *, pretrained: bool = False):
        super().__init__()
        self.layer = nn.Linear(channels, depth)


@store_init_args()
class Child(Part):
    def __init__(self, width: int):
        super().__init__(2 * width)


class Renamed(Part):
    """Has no constructor of its own."""


class Undecorated(Part):
    def __init__(self):
        super().__init__(1)


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (Part(4), {"channels": 4, "depth": 3, "pretrained": False}),
        (Part(4, 5, pretrained=True), {"channels": 4, "depth": 5, "pretrained": False}),
        (Part(depth=1, channels=2), {"channels": 2, "depth": 1, "pretrained": False}),
        (Child(3), {"width": 3}),
        (Renamed(7), {"channels": 7, "depth": 3, "pretrained": False}),
    ],
)
def test_arguments_with_their_defaults(part, expected):
    assert part.init_args == expected
    assert copy.deepcopy(part).init_args == expected


def test_a_subclass_that_is_not_decorated_does_not_store_its_arguments():
    assert not hasattr(Undecorated(), "init_args")


def test_a_part_without_a_constructor_has_no_arguments():
    @store_init_args()
    class Plain(nn.Module):
        """Nothing to build."""

    assert Plain().init_args == {}


def test_variadic_arguments_are_an_error():
    class Bag(nn.Module):
        def __init__(self, channels, **options):
            super().__init__()

    with pytest.raises(TypeError, match=r"Bag takes \*options, which cannot be stored"):
        store_init_args()(Bag)


def test_invalid_arguments():
    with pytest.raises(TypeError, match="channels"):
        Part()
