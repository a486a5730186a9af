import pytest
import torch
from torch import nn

from featlift.image_sr import DDBPN, EDSR, RCAN, SRCNN, VDSR
from featlift.image_sr.official_weights import convert_published_keys, load_published_weights


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


def test_names_and_shapes_of_dbpn_x4():
    """A few names from the public file, with their shapes, found in our full-size network."""
    known = {
        "module.feat0.conv.weight": ("lift.0.weight", (256, 3, 3, 3)),
        "module.feat1.act.weight": ("narrow.1.weight", (1,)),
        "module.up1.up_conv1.deconv.weight": ("ups.0.there.0.weight", (64, 64, 8, 8)),
        "module.down2.conv.conv.weight": ("downs.1.squeeze.0.weight", (64, 128, 1, 1)),
        "module.up7.conv.conv.weight": ("ups.6.squeeze.0.weight", (64, 384, 1, 1)),
        "module.down6.down_conv2.deconv.bias": ("downs.5.back.0.bias", (64,)),
        "module.down6.down_conv3.act.weight": ("downs.5.again.1.weight", (1,)),
        "module.output_conv.conv.weight": ("paint.weight", (3, 448, 3, 3)),
    }
    with torch.device("meta"):
        ours = DDBPN(4).state_dict()
    for published, (name, shape) in known.items():
        assert (
            next(iter(convert_published_keys({published: torch.zeros(1), "feat0.conv.weight": torch.zeros(1)}))) == name
        )
        assert ours[name].shape == shape


def test_pickled_networks_are_refused(tmp_path):
    """As pytorch-vdsr publishes them: reading such a file would run its code."""
    torch.save({"epoch": 50, "model": nn.Conv2d(1, 1, 1)}, tmp_path / "whole.pth")
    with pytest.raises(ValueError, match="run any code"):
        load_published_weights(SRCNN(2), tmp_path / "whole.pth")


def test_wrong_scale_is_explained(tmp_path):
    torch.save(DDBPN(2, 3, 8, 4).state_dict(), tmp_path / "x2.pth")
    with pytest.raises(ValueError, match="DDBPN at 4x"):
        load_published_weights(DDBPN(4, 3, 8, 4), tmp_path / "x2.pth")
