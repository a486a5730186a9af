import pytest
import torch
from timm.utils import ModelEma, ModelEmaV2, ModelEmaV3
from torch import nn
from torch.optim.swa_utils import AveragedModel

from featlift.upgrading.wrappers import unwrap_module


@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile, lambda m: nn.DataParallel(torch.compile(m))])
def test_wrappers_of_the_same_network(wrap):
    network = nn.Conv2d(1, 1, 1)
    assert unwrap_module(wrap(network)) is network
    assert unwrap_module(network) is network


@pytest.mark.parametrize("wrap", [AveragedModel, ModelEma, ModelEmaV2, ModelEmaV3])
def test_averaged_weights(wrap):
    network = nn.Conv2d(1, 1, 1)
    average = unwrap_module(wrap(network))
    assert type(average) is nn.Conv2d
    assert average is not network


def test_a_network_with_a_child_named_module_is_no_wrapper():
    network = nn.ModuleDict({"module": nn.Conv2d(1, 1, 1)})
    assert unwrap_module(network) is network


def test_what_is_no_network():
    class Predictor:
        def __init__(self) -> None:
            self.net = nn.Conv2d(1, 1, 1)

    with pytest.raises(TypeError, match=r"This Predictor is no torch\.nn\.Module\. Pass its attribute \.net\."):
        unwrap_module(Predictor())
    with pytest.raises(TypeError, match=r"This str is no torch\.nn\.Module\.$"):
        unwrap_module("yolo11n.pt")
