import pytest
import torch

from featlift.deployment.sr_inference import (
    INFERENCE_DTYPES,
    MEMORY_FORMATS,
    InferenceNetwork,
    fastest_inference_network,
    time_inference,
)
from featlift.image_sr import SUPER_RESOLVERS, super_resolver


def network():
    torch.manual_seed(0)
    return super_resolver("d-dbpn", 2, stages=2, initial_channels=16, width=8)


@pytest.mark.parametrize("name", SUPER_RESOLVERS)
def test_every_network_runs_in_bf16(name):
    options = {
        "edsr": {"blocks": 1, "width": 8},
        "rcan": {"groups": 1, "blocks": 1},
        "d-dbpn": {"stages": 2},
        "dbpnll": {"stages": 2},
    }
    torch.manual_seed(0)
    net, low = super_resolver(name, 2, **options.get(name, {})), torch.rand(1, 3, 9, 8)
    plain = net(low).detach()
    error = (InferenceNetwork(net, "channels-last", "bf16")(low) - plain).abs().mean() / plain.abs().mean()
    assert error < 0.02


@pytest.mark.parametrize("memory_format", MEMORY_FORMATS)
@pytest.mark.parametrize("precision", [name for name in INFERENCE_DTYPES if name != "fp16"])
def test_every_configuration_gives_nearly_the_same_output(memory_format, precision):
    net, low = network(), torch.rand(2, 3, 12, 10)
    out = InferenceNetwork(net, memory_format, precision)(low)
    assert out.dtype == torch.float32
    tolerance = 1e-5 if precision == "fp32" else 0.05
    torch.testing.assert_close(out, net(low).detach(), rtol=tolerance, atol=tolerance)


def test_the_network_itself_is_not_changed():
    net = network()
    InferenceNetwork(net, "channels-last", "bf16")
    assert next(net.parameters()).dtype == torch.float32
    assert next(net.parameters()).requires_grad


def test_timings_are_sorted_and_complete():
    timings = time_inference(network(), torch.rand(1, 3, 16, 16), rounds=1)
    assert len(timings) == 4
    assert [timing.seconds for timing in timings] == sorted(timing.seconds for timing in timings)
    assert all(timing.psnr > 90 for timing in timings if timing.network.precision == "fp32")


def test_fastest_keeps_the_minimum_psnr():
    assert fastest_inference_network(network(), torch.rand(1, 3, 16, 16), min_psnr=90).precision == "fp32"


def test_unknown_memory_format():
    with pytest.raises(ValueError, match="channels-last"):
        InferenceNetwork(network(), "channels-first")
