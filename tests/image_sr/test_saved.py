import pytest
import torch

from featlift.checkpoints import save
from featlift.image_sr import SUPER_RESOLVERS, super_resolver
from featlift.image_sr.saved import NETWORK_FILE, load_super_resolver
from featlift.interpolators import interpolator

OPTIONS = {
    "edsr": {"blocks": 1, "width": 8},
    "rcan": {"groups": 1, "blocks": 1},
    "d-dbpn": {"stages": 2},
    "dbpnll": {"stages": 2},
}


@pytest.mark.parametrize("name", SUPER_RESOLVERS)
def test_built_again_from_its_file(name, tmp_path):
    options = OPTIONS.get(name, {})
    network = super_resolver(name, 2, **options).eval()
    save(network, tmp_path / NETWORK_FILE)
    again, low = load_super_resolver(tmp_path), torch.rand(1, 3, 8, 8)
    assert again.scale == 2
    assert not again.training
    torch.testing.assert_close(again(low), network(low), rtol=0, atol=0)


def test_other_files_are_refused(tmp_path):
    save(interpolator("afi", 8, growth=4), tmp_path / NETWORK_FILE)
    with pytest.raises(ValueError, match="no super-resolver"):
        load_super_resolver(tmp_path)
