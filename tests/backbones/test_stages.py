import pytest
import torch

from featlift.backbones import Backbone
from featlift.backbones.stages import forward_after, forward_until, has_separate_stages


@pytest.mark.parametrize("name", ["test_byobnet", "resnet10t"])
def test_the_stages_together_are_the_backbone(name):
    backbone = Backbone(name, ("c3", "c4", "c5"), "batch").eval()
    assert has_separate_stages(backbone.network)
    image = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        expected = backbone(image)
        early = forward_until(backbone, image, "c4")
        late = forward_after(backbone, early["c4"], "c4")
    assert list(early) == ["c3", "c4"]
    assert list(late) == ["c5"]
    for level, value in {**early, **late}.items():
        assert torch.equal(value, expected[level])


def test_the_stages_after_c4_are_not_run():
    backbone = Backbone("test_byobnet", ("c3", "c4", "c5"), "batch").eval()
    backbone.network["stages_3"].register_forward_hook(lambda *_: pytest.fail("c5 was computed"))
    forward_until(backbone, torch.rand(1, 3, 32, 32), "c4")


def test_networks_without_separate_stages_are_refused():
    backbone = Backbone("test_efficientnet", ("c3", "c4", "c5"), "batch")
    assert not has_separate_stages(backbone.network)
    with pytest.raises(TypeError, match="one by one"):
        forward_until(backbone, torch.rand(1, 3, 32, 32), "c4")
