import pytest
import torch
from torch import nn

from featlift.image_sr import SR_SCALES, SUPER_RESOLVERS, super_resolver

PARAMETERS = {  # at 4x, from the papers and the public weights
    "bicubic": 0,
    "compact": 98_796,
    "srcnn": 57_281,
    "srcnn-915": 8_129,
    "vdsr": 665_921,
    "edsr": 43_089_923,
    "edsr-baseline": 1_517_571,
    "rcan": 15_592_355,
    "d-dbpn": 10_426_358,
    "dbpnll": 15_348_302,
}
SMALL = {
    "vdsr": {"depth": 3, "width": 8},
    "edsr": {"blocks": 2, "width": 8},
    "edsr-baseline": {"blocks": 2, "width": 8},
    "rcan": {"groups": 2, "blocks": 2, "width": 16, "reduction": 4},
    "d-dbpn": {"stages": 3, "initial_channels": 16, "width": 8},
    "dbpnll": {"stages": 4, "initial_channels": 16, "width": 8},
}


def small(name: str, scale: int) -> nn.Module:
    torch.manual_seed(0)
    return super_resolver(name, scale, **SMALL.get(name, {}))


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_every_network_has_a_count():
    assert set(PARAMETERS) == set(SUPER_RESOLVERS)


@pytest.mark.parametrize("name", SUPER_RESOLVERS)
def test_parameters_at_4x(name):
    with torch.device("meta"):
        assert count(super_resolver(name, 4)) == PARAMETERS[name]


@pytest.mark.parametrize(("scale", "parameters"), [(2, 5_953_526), (8, 23_205_878)])
def test_parameters_of_d_dbpn_at_other_scales(scale, parameters):
    with torch.device("meta"):
        assert count(super_resolver("d-dbpn", scale)) == parameters


@pytest.mark.parametrize("scale", SR_SCALES)
@pytest.mark.parametrize("name", SUPER_RESOLVERS)
def test_upscales_any_size_alone_or_in_a_batch(name, scale):
    network = small(name, scale)
    low = torch.rand(2, 3, 5, 7)
    high = network(low)
    assert network.scale == scale
    assert high.shape == (2, 3, 5 * scale, 7 * scale)
    torch.testing.assert_close(high[1:], network(low[1:]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in SUPER_RESOLVERS if PARAMETERS[name]])
def test_every_parameter_learns(name):
    network = small(name, 2)
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter)  # a zero-initialized last layer gives the previous layers zero gradient
    network(torch.rand(1, 3, 8, 8)).square().mean().backward()
    dead = [
        name
        for name, p in network.named_parameters()
        if p.grad is None or not p.grad.isfinite().all() or not p.grad.any()
    ]
    # a ReLU or a shared slope may be inactive for one image; a whole convolution may not
    assert [name for name in dead if name.endswith("weight") and network.get_parameter(name).dim() == 4] == []


@pytest.mark.parametrize("name", SUPER_RESOLVERS)
def test_saved_and_loaded(name, tmp_path):
    first, second = small(name, 3), super_resolver(name, 3, **SMALL.get(name, {}))
    torch.save(first.state_dict(), tmp_path / "weights.pt")
    second.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    low = torch.rand(1, 3, 6, 6)
    torch.testing.assert_close(first(low), second(low), rtol=0, atol=0)


@pytest.mark.parametrize(
    "name", [name for name in SUPER_RESOLVERS if hasattr(small(name, 2), "gradient_checkpointing")]
)
def test_gradient_checkpointing_changes_no_gradient(name):
    network, low = small(name, 2), torch.rand(1, 3, 6, 6)
    expected = torch.autograd.grad(network(low).square().sum(), list(network.parameters()))
    network.gradient_checkpointing = True  # type: ignore[assignment]
    gradients = torch.autograd.grad(network(low).square().sum(), list(network.parameters()))
    torch.testing.assert_close(gradients, expected)


def test_unknown_name_or_scale():
    with pytest.raises(ValueError, match="d-dbpn"):
        super_resolver("dbpm", 4)
    with pytest.raises(ValueError, match="2, 3, 4, 8"):
        super_resolver("edsr", 5)
