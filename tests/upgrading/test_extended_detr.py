"""RT-DETR and D-FINE; with real networks in tests/integrations."""

import pytest
import torch
from torch import nn

from featlift.upgrading.extended_detr import DETRFamily, ExtendedDETR


def test_networks_with_another_structure_are_no_members(rtdetr, yolox):
    for model in (rtdetr, yolox, nn.Linear(2, 2)):
        assert not DETRFamily().matches(model)


def test_outputs_without_names_are_refused():
    with pytest.raises(RuntimeError, match="return_dict=True"):
        ExtendedDETR.merge_level(None, (torch.zeros(1, 2, 3), torch.zeros(1, 2, 4)))
