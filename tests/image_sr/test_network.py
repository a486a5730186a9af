import pytest
import torch

from featlift.image_sr import super_resolver
from featlift.image_sr.network import Network, build


def test_recompute_only_where_there_are_blocks():
    assert build(Network("d-dbpn", 2, {"stages": 2}, recompute=True)).recompute is True
    with pytest.raises(ValueError, match="recompute"):
        build(Network("srcnn", 2, recompute=True))


def test_published_weights_start_the_network(tmp_path):
    torch.save(super_resolver("srcnn", 3).state_dict(), tmp_path / "srcnn_x3.pth")
    network = build(Network("srcnn", 3, weights=str(tmp_path / "srcnn_x3.pth")))
    expected = torch.load(tmp_path / "srcnn_x3.pth", weights_only=True)
    assert all(value.equal(expected[name]) for name, value in network.state_dict().items())


def test_the_papers_network_is_the_default():
    with torch.device("meta"):
        assert sum(p.numel() for p in build(Network()).parameters()) == 10_426_358
