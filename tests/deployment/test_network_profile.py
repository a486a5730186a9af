import pytest
import torch
from torch import nn

from featlift.deployment.network_profile import format_network_table, profile_network
from featlift.interpolators import interpolator
from featlift.upgrading import is_upgraded, upgrade


def test_the_network_as_it_is_and_upgraded():
    network = nn.Sequential(
        nn.Conv2d(3, 8, 4, 4), nn.Conv2d(8, 8, 3), nn.Upsample(scale_factor=2), nn.Conv2d(8, 2, 1)
    ).eval()
    rows = profile_network(network, torch.rand(3, 64, 64), ["light", "deconv"], rounds=1)
    plain = sum(p.numel() for p in network.parameters())
    added = [sum(p.numel() for p in interpolator(name, 8).parameters()) for name in ("light", "deconv")]
    assert [row.name for row in rows] == ["as it is", "+ light", "+ deconv"]
    assert [row.num_parameters for row in rows] == [plain, *(plain + n for n in added)]
    assert all(row.gmacs > rows[0].gmacs for row in rows[1:])
    assert not is_upgraded(network)
    assert format_network_table(rows).count("\n") == 3
    upgrade(network, "light")
    assert [row.name for row in profile_network(network, torch.rand(3, 64, 64), rounds=1)] == ["as it is"]
    with pytest.raises(ValueError, match="Unknown interpolator 'lihgt'"):
        profile_network(network, torch.rand(3, 64, 64), ["lihgt"])
