import pytest
import torch

from featlift.image_sr import super_resolver
from featlift.image_sr.network import SuperResolverConfig, build_super_resolver


def test_gradient_checkpointing_only_where_there_are_blocks():
    assert (
        build_super_resolver(
            SuperResolverConfig("d-dbpn", 2, {"stages": 2}, gradient_checkpointing=True)
        ).gradient_checkpointing
        is True
    )
    with pytest.raises(ValueError, match="gradient_checkpointing"):
        build_super_resolver(SuperResolverConfig("srcnn", 2, gradient_checkpointing=True))


def test_published_weights_are_loaded(tmp_path):
    torch.save(super_resolver("srcnn", 3).state_dict(), tmp_path / "srcnn_x3.pth")
    network = build_super_resolver(SuperResolverConfig("srcnn", 3, weights=str(tmp_path / "srcnn_x3.pth")))
    expected = torch.load(tmp_path / "srcnn_x3.pth", weights_only=True)
    assert all(value.equal(expected[name]) for name, value in network.state_dict().items())


def test_the_papers_network_is_the_default():
    with torch.device("meta"):
        assert sum(p.numel() for p in build_super_resolver(SuperResolverConfig()).parameters()) == 10_426_358
