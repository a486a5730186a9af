import pytest
import torch
from torch import nn

from featlift.image_sr import DDBPN, EDSR, RCAN, SRCNN, VDSR
from featlift.image_sr.official_weights import build_published_network, convert_published_keys, load_published_weights


def mean_shifts():
    shifts = {"sub_mean.weight": torch.eye(3)[:, :, None, None], "sub_mean.bias": torch.ones(3)}
    return shifts | {name.replace("sub", "add"): value for name, value in shifts.items()}


@pytest.mark.parametrize(
    "network",
    [EDSR(4, 2, 8), RCAN(2, 2, 2, 16, 4), SRCNN(3), VDSR(2, depth=3, width=4, bias=False)],
    ids=lambda n: type(n).__name__,
)
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("zipped", [True, False])
def test_published_layouts_load(network, prefix, zipped, tmp_path):
    state = {prefix + name: torch.full_like(x, 0.25) for name, x in (network.state_dict() | mean_shifts()).items()}
    torch.save(state, tmp_path / "published.pth", _use_new_zipfile_serialization=zipped)
    load_published_weights(network, tmp_path / "published.pth")
    assert all((p == 0.25).all() for p in network.parameters())


def test_keys_and_shapes_of_dbpn_x4():
    """Some keys of the public file, with their shapes, present in the full-size network."""
    expected = {
        "module.feat0.conv.weight": ("feat0.0.weight", (256, 3, 3, 3)),
        "module.feat1.act.weight": ("feat1.1.weight", (1,)),
        "module.up1.up_conv1.deconv.weight": ("ups.0.project.0.weight", (64, 64, 8, 8)),
        "module.down2.conv.conv.weight": ("downs.1.squeeze.0.weight", (64, 128, 1, 1)),
        "module.up7.conv.conv.weight": ("ups.6.squeeze.0.weight", (64, 384, 1, 1)),
        "module.down6.down_conv2.deconv.bias": ("downs.5.back_project.0.bias", (64,)),
        "module.down6.down_conv3.act.weight": ("downs.5.project_residual.1.weight", (1,)),
        "module.output_conv.conv.weight": ("output_conv.weight", (3, 448, 3, 3)),
    }
    with torch.device("meta"):
        state = DDBPN(4).state_dict()
    for published, (name, shape) in expected.items():
        assert (
            next(iter(convert_published_keys({published: torch.zeros(1), "feat0.conv.weight": torch.zeros(1)}))) == name
        )
        assert state[name].shape == shape


def published_dbpn_keys(state):
    """The names that alterzero/DBPN-Pytorch gives to the tensors of a state dict of FeatLift."""
    names = {"squeeze": "conv", "project": "{0}_conv1", "back_project": "{0}_conv2", "project_residual": "{0}_conv3"}
    renamed = {}
    for name, value in state.items():
        parts = name.split(".")
        if parts[0] in ("ups", "downs"):
            kind, number, layer, index, tensor = parts
            kind = kind.removesuffix("s")
            transposed = (kind == "up") != (layer == "back_project")
            inner = "act" if index == "1" else "deconv" if transposed and layer != "squeeze" else "conv"
            name = f"{kind}{int(number) + 1}.{names[layer].format(kind)}.{inner}.{tensor}"
        elif parts[0].startswith("feat"):
            name = f"{parts[0]}.{'act' if parts[1] == '1' else 'conv'}.{parts[2]}"
        else:
            name = f"output_conv.conv.{parts[1]}"
        renamed[f"module.{name}"] = value
    return renamed


@pytest.mark.parametrize(
    ("network", "published"),
    [
        (DDBPN(4, 3, 8, 4), published_dbpn_keys),
        (DDBPN(2, 2, 8, 4), published_dbpn_keys),
        (SRCNN(3, 1), dict),
        (VDSR(3, depth=4, width=4, bias=False), dict),
    ],
    ids=["DBPN 4x", "DBPN 2x", "SRCNN", "VDSR"],
)
def test_a_published_file_is_built_from_its_shapes(network, published, tmp_path):
    torch.save(published(network.state_dict()), tmp_path / "published.pth")
    built = build_published_network(tmp_path / "published.pth", 3)
    assert type(built) is type(network)
    assert built.scale == network.scale
    low = torch.rand(1, 3, 6, 5)
    assert torch.equal(built(low), network(low))


def test_other_files_are_none_of_the_published_networks(tmp_path):
    torch.save(EDSR(2, 1, 8).state_dict(), tmp_path / "edsr.pth")
    (tmp_path / "broken.pth").write_bytes(b"nothing")
    assert build_published_network(tmp_path / "edsr.pth") is None
    assert build_published_network(tmp_path / "broken.pth") is None
    part = {name: x for name, x in DDBPN(2, 2, 8, 4).state_dict().items() if name != "output_conv.bias"}
    torch.save(part, tmp_path / "part.pth")
    with pytest.raises(ValueError, match=r"output_conv\.bias"):
        build_published_network(tmp_path / "part.pth")


def test_pickled_networks_are_rejected(tmp_path):
    """As published by pytorch-vdsr: reading such a file would execute its code."""
    torch.save({"epoch": 50, "model": nn.Conv2d(1, 1, 1)}, tmp_path / "whole.pth")
    with pytest.raises(ValueError, match="execute any code"):
        load_published_weights(SRCNN(2), tmp_path / "whole.pth")


def test_wrong_scale_is_explained(tmp_path):
    torch.save(DDBPN(2, 3, 8, 4).state_dict(), tmp_path / "x2.pth")
    with pytest.raises(ValueError, match="DDBPN at 4x"):
        load_published_weights(DDBPN(4, 3, 8, 4), tmp_path / "x2.pth")
