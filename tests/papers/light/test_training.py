"""Tiny distillation and fine-tuning runs; the losses are compared with explicit sums."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from featlift import checkpoints
from featlift.detectors import get_extractor, get_interpolators
from featlift.detectors.checkpoint import interpolator_weight_files, load_detector, save_detector
from featlift.detectors.config import build_detector, build_pyramid_interpolators
from featlift.interpolators.light import ChannelAgnosticInterpolator, LightInterpolator
from featlift.papers import light
from featlift.papers.light import Settings, training
from featlift.papers.light.settings import DistillationWeights
from featlift.papers.light.training import distillation_losses
from featlift.resolution import downscale_images, frozen_copy


@pytest.fixture
def settings(model, data, stage):
    """Settings with every stage ``steps`` long and an AFI of 4 … 8 channels as teacher."""

    def make(name="light", steps=1, **changes):
        config = Settings(
            model=model(name, hidden_channels=4),
            data=data(),
            teacher=stage(steps),
            interpolator=stage(steps),
            target=stage(steps),
            teacher_interpolator="pixel-shuffle",
        )
        return replace(config, **changes)

    return make


@pytest.fixture
def F(model):
    torch.manual_seed(3)
    return frozen_copy(get_extractor(build_detector(model("afi", growth_rate=4, num_blocks=1), 3)))


def images():
    generator = torch.Generator().manual_seed(5)
    return [torch.rand(3, 128, 64, generator=generator), torch.rand(3, 64, 128, generator=generator)]


def relative(student, teacher):
    """Mean square of the difference over that of the teacher, for each image, then the mean."""
    each = [((s - t) ** 2).mean() / (t**2).mean() for s, t in zip(student, teacher, strict=True)]
    return sum(each) / len(each)


def test_the_cross_resolution_loss_equals_explicit_sums(F):
    G = nn.ModuleList([LightInterpolator(8, 4, init="mild")])
    padded = torch.zeros(2, 3, 128, 128) + F.mean
    small = padded[..., :64, :64].clone()
    for i, (large, half) in enumerate(zip(images(), downscale_images(images()), strict=True)):
        padded[i, :, : large.shape[1], : large.shape[2]] = large
        small[i, :, : half.shape[1], : half.shape[2]] = half
    teacher_maps, small_maps = F(padded), F(small)
    expected = sum(
        relative(G[0](small_maps[level])[..., : y.shape[2], : y.shape[3]], y[..., : 2 * small_maps[level].shape[2], :])
        for level, y in teacher_maps.items()
        if 2 * small_maps[level].shape[3] == y.shape[3]
    )
    losses = distillation_losses(
        F, G, F.pyramid.upsampled_levels, images(), DistillationWeights(same_resolution=0, cross_resolution=2.0)
    )
    assert set(losses) == {"cross_resolution"}
    unequal = [level for level, y in teacher_maps.items() if 2 * small_maps[level].shape[3] != y.shape[3]]
    for level in unequal:  # p6 of one cell: the upsampled map is cropped to it
        y = teacher_maps[level]
        expected = expected + relative(G[0](small_maps[level])[..., : y.shape[2], : y.shape[3]], y)
    torch.testing.assert_close(losses["cross_resolution"], 2 * expected, rtol=1e-4, atol=1e-6)


def test_the_same_resolution_loss_equals_explicit_sums(F):
    G = nn.ModuleList([LightInterpolator(8, 4, init="mild")])
    maps = []
    handle = F.pyramid.interpolators[0].register_forward_hook(
        lambda _, inputs, output: maps.append((inputs[0], output))
    )
    padded = torch.zeros(2, 3, 128, 128) + F.mean
    for i, large in enumerate(images()):
        padded[i, :, : large.shape[1], : large.shape[2]] = large
    F(padded)
    handle.remove()
    assert len(maps) == 3
    expected = sum(relative(G[0](x), y) for x, y in maps)
    losses = distillation_losses(
        F, G, F.pyramid.upsampled_levels, images(), DistillationWeights(same_resolution=0.5, cross_resolution=0)
    )
    assert set(losses) == {"same_resolution"}
    torch.testing.assert_close(losses["same_resolution"], 0.5 * expected, rtol=1e-4, atol=1e-6)
    assert not F.pyramid.interpolators[0]._forward_hooks


@pytest.mark.parametrize("term", ["same_resolution", "cross_resolution"])
def test_each_loss_alone_has_gradients_for_g_and_only_g(F, term):
    G = nn.ModuleList([LightInterpolator(8, 4, init="mild")])
    weights = DistillationWeights(**{"same_resolution": 0.0, "cross_resolution": 0.0, term: 1.0})
    distillation_losses(F, G, F.pyramid.upsampled_levels, images(), weights)[term].backward()
    assert all(p.grad is not None and p.grad.any() for p in G.parameters())
    assert not any(p.requires_grad for p in F.parameters())


@pytest.mark.parametrize("term", ["same_resolution", "cross_resolution"])
def test_each_loss_can_be_minimized(F, term):
    torch.manual_seed(0)
    G, weights = (
        nn.ModuleList([LightInterpolator(8, 8)]),
        DistillationWeights(**{"same_resolution": 0.0, "cross_resolution": 0.0, term: 1.0}),
    )
    optimizer = torch.optim.Adam(G.parameters(), 1e-2)
    history = []
    for _ in range(25):
        loss = distillation_losses(F, G, F.pyramid.upsampled_levels, images(), weights)[term]
        history.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert history[-1] < 0.8 * history[0]


@pytest.mark.parametrize("term", ["same_resolution", "cross_resolution"])
def test_each_interpolator_of_a_bifpn_is_distilled(model, term):
    """One interpolator per step and layer; each learns the steps of its own level."""
    config = replace(model("pixel-shuffle"), pyramid="bifpn")
    F = frozen_copy(get_extractor(build_detector(config, 3)))
    G = nn.ModuleList(build_pyramid_interpolators(config))
    weights = DistillationWeights(**{"same_resolution": 0.0, "cross_resolution": 0.0, term: 1.0})
    distillation_losses(F, G, F.pyramid.upsampled_levels, images(), weights)[term].backward()
    assert len(G) == 12
    assert all(p.grad is not None and p.grad.any() for p in G.parameters())


@pytest.mark.parametrize("name", ["light", "light-agnostic", "deconv"])
def test_the_stages(settings, run, name):
    config = settings(name) if name != "deconv" else settings(model=settings().model)
    if name == "deconv":
        config = replace(config, model=replace(config.model, interpolator="deconv", interpolator_options={}))
    folder = run(config)
    G = light.train(config, folder, "interpolator")
    assert set(folder.stage_progress()) == {"teacher", "interpolator"}
    T = light.train(config, folder)
    assert set(folder.stage_progress()) == {"teacher", "interpolator", "target"}
    assert len(get_interpolators(T)) == len(G) == (3 if name == "deconv" else 1)
    for part, file in zip(G, interpolator_weight_files(folder.folder, len(G)), strict=True):
        weights = checkpoints.load(file).state_dict()
        assert all(torch.equal(value, weights[key]) for key, value in part.state_dict().items())
    again, _ = load_detector(folder.folder)
    assert all(torch.equal(value, T.state_dict()[key]) for key, value in again.state_dict().items())


@pytest.mark.parametrize("target_init", ["teacher", "weights"])
def test_what_the_target_starts_from(settings, run, monkeypatch, target_init):
    config = settings(target_init=target_init)
    folder = run(config)
    teacher = light.train(config, folder, "teacher").state_dict()
    G = light.train(config, folder, "interpolator").state_dict()
    weights = {}
    monkeypatch.setattr(training, "train_detector", lambda T, *_: weights.update(T.state_dict()))
    monkeypatch.setattr(
        training, "run_teachers_stage", lambda *_: [load_detector(folder.folder / "teacher.safetensors")[0]]
    )
    light.train(config, folder)
    assert all(torch.equal(value, weights[f"backbone.pyramid.interpolators.{name}"]) for name, value in G.items())
    others = [name for name in teacher if ".interpolators." not in name and teacher[name].is_floating_point()]
    assert all(torch.equal(teacher[name], weights[name]) for name in others) == (target_init == "teacher")


def test_an_agnostic_interpolator_is_distilled_from_two_pyramids_and_used_in_a_third(settings, run, model):
    """Teachers of 8 and 12 channels, a target of 10, all in one chain of runs."""
    files = []
    for channels in (8, 12):
        config = replace(model("pixel-shuffle"), pyramid_channels=channels)
        files.append(
            str(save_detector(build_detector(config, 3), config, list("abc"), run().folder, f"{channels}.safetensors"))
        )
    config = settings("light-agnostic", teachers_from=tuple(files))
    first = run(config, "distilled")
    (G,) = light.train(config, first, "interpolator")
    assert isinstance(G, ChannelAgnosticInterpolator)
    assert any(p.any() for p in [G.last.weight])
    other = replace(
        config,
        model=replace(config.model, pyramid_channels=10),
        target_init="weights",
        interpolator_from=str(first.folder),
    )
    second = run(other, "used")
    T = light.train(other, second)
    assert set(second.stage_progress()) == {"target"}
    assert T([torch.rand(3, 64, 64)], [{"boxes": torch.tensor([[1.0, 1, 30, 30]]), "labels": torch.tensor([1])}])


def test_nearest_teachers_only_support_the_cross_resolution_loss(settings, run):
    config = settings(teacher_interpolator="nearest")
    with pytest.raises(
        ValueError, match=r"nearest interpolation, which cannot be distilled.*loss_weights.same_resolution to 0"
    ):
        light.train(config, run(config), "interpolator")
    alone = replace(config, loss_weights=DistillationWeights(same_resolution=0))
    folder = run(alone, "alone")
    light.train(alone, folder, "interpolator")
    assert set(folder.read_log("interpolator")[0]) >= {"cross_resolution"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DistillationWeights(0, 0), "at least one must be above 0"),
        (lambda: DistillationWeights(1, -1), "neither may be negative"),
        (lambda: Settings(target_init="F"), "choose one of teacher, weights"),
        (lambda: light.train(Settings.quick(), None, "extractor"), "choose one of teacher, interpolator, target"),
    ],
)
def test_what_does_not_exist_is_refused_at_once(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_defaults():
    config, quick = Settings(), Settings.quick()
    assert (config.model.interpolator, config.teacher_interpolator, config.model.detector) == (
        "light",
        "afi",
        "mask-rcnn",
    )
    assert (quick.model.interpolator, quick.model.pyramid_channels) == ("light", 64)
    assert quick.interpolator.steps + quick.teacher.steps + quick.target.steps == 1000
