import pytest

from featlift.upgrading.sites import common_parent


@pytest.mark.parametrize(
    ("paths", "parent"),
    [
        (["decoder.blocks.0", "decoder.blocks.1"], "decoder.blocks"),
        (["neck.up", "neck"], "neck"),
        (["neck.up", "head"], ""),
        (["model.10", "model.1"], "model"),
        (["fpn"], "fpn"),
        ([""], ""),
        ([], ""),
    ],
)
def test_the_nearest_common_parent(paths, parent):
    assert common_parent(paths) == parent
