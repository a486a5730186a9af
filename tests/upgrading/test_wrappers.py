import pytest
import torch
from timm.utils import ModelEma, ModelEmaV2, ModelEmaV3
from torch import nn
from torch.optim.swa_utils import AveragedModel

from featlift.upgrading import downgrade, is_upgraded, upgrade
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


class Detector:
    """An object of a library that holds its network as ``module``, as pixeltable's ``Yolox``."""

    def __init__(self, network: nn.Module) -> None:
        self.module, self.names, self.loss = network, ["a"], nn.L1Loss()


class Session:
    """As ``RFDETR``: the network is the attribute of an attribute."""

    def __init__(self, network: nn.Module) -> None:
        self.model, self.postprocess = Detector(network), str


class Task(nn.Module):
    """As Ultralytics' ``YOLO`` and many Lightning modules: no ``forward``, one network, a loss without parameters."""

    def __init__(self, **networks: nn.Module) -> None:
        super().__init__()
        self.loss = nn.L1Loss()
        for name, network in networks.items():
            self.add_module(name, network)


def test_objects_that_hold_one_network_are_opened():
    network = nn.Conv2d(1, 1, 1)
    for wrapper in (Detector(network), Session(network), Task(net=network), Detector(nn.DataParallel(network))):
        assert unwrap_module(wrapper) is network


def test_what_has_no_or_several_networks_is_refused():
    network = nn.Conv2d(1, 1, 1)
    with pytest.raises(
        TypeError, match=r"This Task has no forward\. Pass one of its networks: \.student or \.teacher\."
    ):
        unwrap_module(Task(student=network, teacher=nn.Conv2d(1, 1, 1)))
    pair = Detector(network)
    pair.ema = network  # type: ignore[attr-defined]
    with pytest.raises(
        TypeError, match=r"This Detector is no torch\.nn\.Module\. Pass one of its networks: \.module or \.ema\."
    ):
        unwrap_module(pair)
    with pytest.raises(TypeError, match=r"This str is no torch\.nn\.Module\. Pass the network\."):
        unwrap_module("yolo11n.pt")


def test_an_object_that_holds_a_network_is_upgraded_and_downgraded():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Upsample(scale_factor=2), nn.Conv2d(4, 4, 1))
    wrapper = Session(network)
    upgrade(wrapper, "deconv")  # type: ignore[arg-type]
    assert is_upgraded(wrapper)
    assert is_upgraded(network)
    downgrade(wrapper)  # type: ignore[arg-type]
    assert not is_upgraded(network)
