import pytest
import torch
from torch import nn

from featlift.upgrading.state import added_parameters, copy_tensors, get_upgrade_state, is_upgraded
from featlift.upgrading.upgrade import downgrade, upgrade


def test_upgraded_itself_in_a_wrapper_and_in_a_submodule(yolo: nn.Module):
    parallel, outer = nn.DataParallel(yolo), nn.ModuleDict({"inner": yolo})
    assert not is_upgraded(yolo)
    upgrade(yolo, "light")
    assert is_upgraded(yolo)
    assert is_upgraded(parallel)
    assert not is_upgraded(outer)
    assert list(added_parameters(parallel)) == list(added_parameters(yolo))
    with pytest.raises(ValueError, match=r"This ModuleDict is not upgraded\. Its submodule 'inner' is"):
        get_upgrade_state(outer)
    downgrade(yolo)
    assert not is_upgraded(parallel)
    with pytest.raises(ValueError, match=r"This Yolo is not upgraded\.$"):
        added_parameters(parallel)


def test_tensors_are_copied_in_place():
    network = nn.Linear(2, 1)
    weight = network.weight
    copy_tensors(network, {"weight": torch.tensor([[1.0, 2.0]])})
    assert network.weight is weight
    assert weight.tolist() == [[1.0, 2.0]]
