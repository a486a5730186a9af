import pytest
import torch
from torch import nn

from featlift.checkpoints import save
from featlift.image_sr import SUPER_RESOLVERS, super_resolver
from featlift.image_sr.checkpoint import SUPER_RESOLVER_FILE, load_super_resolver

OPTIONS = {
    "edsr": {"blocks": 1, "width": 8},
    "rcan": {"groups": 1, "blocks": 1},
    "d-dbpn": {"stages": 2},
    "dbpnll": {"stages": 2},
}


@pytest.mark.parametrize("name", [name for name in SUPER_RESOLVERS if name != "bicubic"])
def test_rebuilt_from_its_file(name, tmp_path):
    network = super_resolver(name, 2, **OPTIONS.get(name, {})).eval()
    save(network, tmp_path / SUPER_RESOLVER_FILE)
    loaded, low = load_super_resolver(tmp_path), torch.rand(1, 3, 8, 8)
    assert loaded.scale == 2
    assert not loaded.training
    torch.testing.assert_close(loaded(low), network(low), rtol=0, atol=0)
    torch.testing.assert_close(load_super_resolver(tmp_path / SUPER_RESOLVER_FILE)(low), network(low), rtol=0, atol=0)


def test_other_modules_are_rejected(tmp_path, monkeypatch):
    monkeypatch.setattr("featlift.image_sr.checkpoint.load", lambda path: nn.Linear(1, 1))
    with pytest.raises(ValueError, match="Linear, no super-resolver"):
        load_super_resolver(tmp_path)
