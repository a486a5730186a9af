"""Weights from other libraries' files."""

from http.client import HTTPException
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from featlift.backbones import Backbone, load_weights
from featlift.backbones.weight_files import explain_failed_download


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    """torchvision's network with random batch-norm statistics."""
    torch.manual_seed(1)
    network = torchvision.models.resnet18()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return network.eval()


def layers(network: nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
    x = network.maxpool(network.relu(network.bn1(network.conv1(x))))
    maps = {}
    for level in ("c2", "c3", "c4", "c5"):
        maps[level] = x = getattr(network, f"layer{int(level[1]) - 1}")(x)
    return maps


@pytest.mark.parametrize("wrapped", ["plain", "model", "state_dict", "module.", "safetensors"])
def test_torchvisions_file_gives_torchvisions_features(resnet, tmp_path, wrapped):
    tensors = resnet.state_dict()
    path = tmp_path / ("weights.safetensors" if wrapped == "safetensors" else "weights.pth")
    if wrapped == "safetensors":
        save_file(tensors, path)
    elif wrapped == "module.":
        torch.save({f"module.{name}": value for name, value in tensors.items()}, path)
    else:
        torch.save(tensors if wrapped == "plain" else {wrapped: tensors}, path)
    backbone = Backbone("resnet18", pretrained=path).eval()
    image = torch.rand(1, 3, 33, 65)
    for level, expected in layers(resnet, (image - backbone.mean) / backbone.std).items():
        torch.testing.assert_close(backbone(image)[level], expected, rtol=1e-3, atol=1e-4)


def test_other_names_in_the_same_order(resnet, tmp_path):
    torch.save(
        {f"tensor{i}": value for i, value in enumerate(resnet.state_dict().values()) if value.ndim}, tmp_path / "w.pth"
    )
    named = dict(Backbone("resnet18", norm="batch", pretrained=tmp_path / "w.pth").network.named_parameters())
    assert torch.equal(named["layer4.1.conv2.weight"], resnet.layer4[1].conv2.weight)
    assert torch.equal(named["layer3.0.downsample.0.weight"], resnet.layer3[0].downsample[0].weight)


def test_its_own_weights_come_back_through_a_file(tmp_path):
    backbone = Backbone("mobilenetv3_small_050", norm="batch")
    torch.save(backbone.network.state_dict(), tmp_path / "own.pth")
    loaded = Backbone("mobilenetv3_small_050", norm="batch", pretrained=str(tmp_path / "own.pth"))
    assert all(torch.equal(a, b) for a, b in zip(backbone.parameters(), loaded.parameters(), strict=True))


def test_the_wrong_network_reports_the_first_mismatch(resnet, tmp_path):
    torch.save(resnet.state_dict(), tmp_path / "resnet18.pth")
    with pytest.raises(
        ValueError,
        match=r"does not fit: \d+ of \d+ tensors match by name.*corresponds to 'conv1.weight' \(64, 3, 7, 7\)",
    ):
        Backbone("mobilenetv3_small_050", pretrained=tmp_path / "resnet18.pth")


def test_too_few_tensors(resnet, tmp_path):
    torch.save({"conv1.weight": resnet.conv1.weight.detach()}, tmp_path / "short.pth")
    with pytest.raises(ValueError, match=r"holds 1 tensors; the network needs 100"):
        Backbone("resnet18", pretrained=tmp_path / "short.pth")


def test_no_state_dict_and_no_file(tmp_path):
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    with pytest.raises(ValueError, match=r"holds a list; expected a state dict"):
        load_weights(nn.Linear(1, 1), tmp_path / "list.pth")
    with pytest.raises(FileNotFoundError, match=r"no weight file 'nowhere.pth'"):
        load_weights(nn.Linear(1, 1), Path("nowhere.pth"))


@pytest.mark.parametrize("error", [URLError("no route"), HTTPException("no route")])
def test_a_failed_download_names_the_weights_the_reason_and_the_remedy(error):
    message = "^The weights could not be downloaded .*no route.*. Give a file.$"
    with pytest.raises(OSError, match=message) as caught, explain_failed_download("The weights", "Give a file."):
        raise error
    assert type(caught.value) is OSError


def test_other_errors_pass():
    with pytest.raises(KeyError), explain_failed_download("The weights", "Give a file."):
        raise KeyError("weight")
