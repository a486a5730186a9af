"""The device by its name, and of a module."""

import pytest
import torch
from torch import nn

from featlift.device import device_of, resolve_device, synchronize_cuda


def test_devices_by_name():
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize(("name", "match"), [("tpu!", "Unknown device 'tpu!'"), ("cuda:99", "not available")])
def test_devices_that_do_not_exist(name, match):
    with pytest.raises(ValueError, match=match):
        resolve_device(name)


def test_the_device_of_a_module_is_that_of_its_parameters():
    assert device_of(nn.Linear(2, 2, device="meta")) == torch.device("meta")
    assert device_of(nn.ReLU()) == torch.device("cpu")


def test_synchronization_needs_no_gpu():
    synchronize_cuda()
