import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from featlift.checkpoints import load, read_tensors, save, write_tensors
from featlift.checkpoints.init_args import store_init_args


def same(a: nn.Module, b: nn.Module) -> bool:
    first, second = a.state_dict(), b.state_dict()
    return list(first) == list(second) and all(torch.equal(first[name], second[name]) for name in first)


def tower(toys):
    upsamplers = [toys.Upsampler(2), toys.Upsampler(3, mode="bicubic")]
    return toys.Tower({"c3": 4, "c2": 5}, upsamplers, size=toys.Size(7), top=toys.Upsampler(1))


def test_a_part_comes_back_with_its_arguments_its_parts_and_its_tensors(toys, tmp_path):
    old = tower(toys)
    old.norm(torch.rand(4, 2))
    new = load(save(old, tmp_path / "deep" / "tower.safetensors"))
    assert same(old, new)
    assert type(new) is toys.Tower
    assert new.size == toys.Size(7)
    assert list(new.init_args["sizes"]) == ["c3", "c2"]
    assert [upsampler.init_args["mode"] for upsampler in new.upsamplers] == ["nearest", "bicubic"]
    assert new.tied is new.layers[0]


def test_a_part_without_tensors_comes_back_too(toys, tmp_path):
    assert type(load(save(toys.Bare(), tmp_path / "bare.safetensors"))) is toys.Bare


def test_the_file_says_what_it_is_and_holds_each_tensor_once(toys, tmp_path):
    path = save(tower(toys), tmp_path / "tower.safetensors")
    with safe_open(path, framework="pt") as file:
        metadata, names = file.metadata(), set(file.keys())
    assert metadata["class"] == "featlift.toys:Tower"
    arguments = json.loads(metadata["arguments"])
    assert arguments["upsamplers"][0] == {
        "class": "featlift.toys:Upsampler",
        "arguments": {"channels": 2, "mode": "nearest", "scale": 0.5},
    }
    assert "layers.0.weight" in names
    assert "tied.weight" not in names
    assert [p.name for p in tmp_path.iterdir()] == ["tower.safetensors"]


def test_saving_draws_nothing(toys, tmp_path):
    part = toys.Upsampler(2)
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    save(part, tmp_path / "a.safetensors")
    assert torch.equal(torch.rand(1), expected)


def test_what_was_changed_after_it_was_built_is_not_saved_as_what_it_was(toys, tmp_path):
    part = toys.Upsampler(2)
    part.layer = nn.Conv2d(2, 2, 5)
    with pytest.raises(
        ValueError,
        match=r"This Upsampler differs from a module built with its arguments(.|\n)*other shape +layer.weight",
    ):
        save(part, tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())


@store_init_args()
class Foreign(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 1)


def test_what_cannot_be_rebuilt_is_not_saved(toys, tmp_path):
    for module in (toys.Undecorated(), nn.Linear(2, 2), Foreign(), toys.Tower({"c2": 1}, [nn.Upsample()])):
        with pytest.raises(TypeError, match=r"cannot be saved as a module file.*@store_init_args"):
            save(module, tmp_path / "a.safetensors")
    with pytest.raises(TypeError, match=r"Tower\(size=…\) is a set"):
        save(toys.Tower({"c2": 1}, [], size={1}), tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("os:system", "refers to os:system; only classes of featlift"),
        ("featlift_evil:Part", "only classes of featlift"),
        ("torch.nn:Linear", "only classes of featlift"),
        ("featlift.toys:Missing", "which this version of featlift does not have"),
        ("featlift.nowhere:Part", "which this version of featlift does not have"),
        ("featlift.toys:number", "which is not a module or dataclass"),
        ("featlift.training.run:subprocess", "does not have"),
        ("featlift.training.run:Path", "which is not a module or dataclass"),
        ("featlift.checkpoints.parts:nn", "which is not a module or dataclass"),
    ],
)
def test_only_featlift_classes_are_built(toys, tmp_path, name, message):
    path = tmp_path / "evil.safetensors"
    save_file({"x": torch.ones(1)}, path, {"class": name, "arguments": "{}"})
    with pytest.raises(ValueError, match=message):
        load(path)


def test_arguments_of_another_version(toys, tmp_path):
    path = tmp_path / "old.safetensors"
    save_file({"x": torch.ones(1)}, path, {"class": "featlift.toys:Upsampler", "arguments": '{"width": 3}'})
    with pytest.raises(
        ValueError, match=r"does not accept the arguments of this checkpoint \(width\).*another version"
    ):
        load(path)


def test_tensors_that_do_not_fit_are_listed(toys, tmp_path):
    path = save(toys.Upsampler(2), tmp_path / "part.safetensors")
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    save_file({"layer.weight": torch.ones(2, 2, 1, 1), "extra": tensors["layer.bias"]}, path, metadata)
    with pytest.raises(ValueError) as error:
        load(path)
    for row in ("layer.weight  file [2, 2, 1, 1], module [2, 2, 3, 3]", "layer.bias", "extra"):
        assert row in str(error.value)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda path: None, FileNotFoundError, "There is no file"),
        (lambda path: path.write_bytes(b"not a file of tensors"), ValueError, "damaged or not a safetensors file"),
        (
            lambda path: save_file({"x": torch.ones(1)}, path),
            ValueError,
            r"does not contain class and arguments.*load_state_file",
        ),
    ],
)
def test_files_that_are_no_parts(tmp_path, make, error, message):
    path = tmp_path / "x.safetensors"
    make(path)
    with pytest.raises(error, match=message):
        load(path)


def test_a_file_cannot_ask_for_downloads(tmp_path, monkeypatch):
    import timm

    from featlift.backbones import image_encoder

    path = save(image_encoder("resnet10t"), tmp_path / "encoder.safetensors")
    tensors, metadata = read_tensors(path)
    metadata["arguments"] = metadata["arguments"].replace('"pretrained": false', '"pretrained": true')
    assert "true" in metadata["arguments"]
    write_tensors(path, tensors, metadata)
    create = timm.create_model
    monkeypatch.setattr(
        timm, "create_model", lambda *a, pretrained, **o: pytest.fail("download") if pretrained else create(*a, **o)
    )
    assert load(path).channels == 512
