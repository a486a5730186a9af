"""Distillation and tuning in miniature; what G learns from is checked against sums written out."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from featlift import checkpoints
from featlift.detectors import get_extractor, get_interpolators
from featlift.interpolators.light import ChannelAgnosticInterpolator, LightInterpolator
from featlift.papers import baseline, light
from featlift.papers.light import DistillationWeights, Settings
from featlift.resolution import downscale_images, frozen_copy


@pytest.fixture
def settings(model, data, stage):
    """Light settings with every stage ``steps`` long and an AFI of 4 … 8 channels as teacher."""

    def make(name="light", steps=1, **changes):
        whole = Settings(
            model=model(name, width=4),
            data=data(),
            teacher=stage(steps),
            interpolator=stage(steps),
            target=stage(steps),
            teacher_interpolator="pixel-shuffle",
        )
        return replace(whole, **changes)

    return make


@pytest.fixture
def F(model):
    torch.manual_seed(3)
    return frozen_copy(get_extractor(baseline.build_detector(model("afi", growth=4, blocks=1), 3)))


def pictures():
    generator = torch.Generator().manual_seed(5)
    return [torch.rand(3, 128, 64, generator=generator), torch.rand(3, 64, 128, generator=generator)]


def relative(student, teacher):
    """Mean square of the difference over that of the teacher, for each picture, then the mean."""
    each = [((s - t) ** 2).mean() / (t**2).mean() for s, t in zip(student, teacher, strict=True)]
    return sum(each) / len(each)


def test_the_lesson_of_the_large_picture_against_sums(F):
    G = nn.ModuleList([LightInterpolator(8, 4, init="mild")])
    padded = torch.zeros(2, 3, 128, 128) + F.mean
    small = padded[..., :64, :64].clone()
    for i, (large, half) in enumerate(zip(pictures(), downscale_images(pictures()), strict=True)):
        padded[i, :, : large.shape[1], : large.shape[2]] = large
        small[i, :, : half.shape[1], : half.shape[2]] = half
    wanted, seen = F(padded), F(small)
    expected = sum(
        relative(G[0](seen[level])[..., : y.shape[2], : y.shape[3]], y[..., : 2 * seen[level].shape[2], :])
        for level, y in wanted.items()
        if 2 * seen[level].shape[3] == y.shape[3]
    )
    found = light.distillation_losses(F, G, pictures(), DistillationWeights(same_resolution=0, cross_resolution=2.0))
    assert set(found) == {"twice"}
    unequal = [level for level, y in wanted.items() if 2 * seen[level].shape[3] != y.shape[3]]
    for level in unequal:  # p6 of one cell: the doubled map is cut to it
        y = wanted[level]
        expected = expected + relative(G[0](seen[level])[..., : y.shape[2], : y.shape[3]], y)
    torch.testing.assert_close(found["twice"], 2 * expected, rtol=1e-4, atol=1e-6)


def test_the_lesson_of_the_same_map_against_sums(F):
    G = nn.ModuleList([LightInterpolator(8, 4, init="mild")])
    maps = []
    handle = F.pyramid.interpolators[0].register_forward_hook(lambda _, given, out: maps.append((given[0], out)))
    padded = torch.zeros(2, 3, 128, 128) + F.mean
    for i, large in enumerate(pictures()):
        padded[i, :, : large.shape[1], : large.shape[2]] = large
    F(padded)
    handle.remove()
    assert len(maps) == 3
    expected = sum(relative(G[0](x), y) for x, y in maps)
    found = light.distillation_losses(F, G, pictures(), DistillationWeights(same_resolution=0.5, cross_resolution=0))
    assert set(found) == {"same_map"}
    torch.testing.assert_close(found["same_map"], 0.5 * expected, rtol=1e-4, atol=1e-6)
    assert not F.pyramid.interpolators[0]._forward_hooks


@pytest.mark.parametrize("term", ["same_map", "twice"])
def test_each_lesson_alone_teaches_g_and_only_g(F, term):
    G = nn.ModuleList([LightInterpolator(8, 4, init="mild")])
    weights = DistillationWeights(**{"same_map": 0.0, "twice": 0.0, term: 1.0})
    light.distillation_losses(F, G, pictures(), weights)[term].backward()
    assert all(p.grad is not None and p.grad.any() for p in G.parameters())
    assert not any(p.requires_grad for p in F.parameters())


@pytest.mark.parametrize("term", ["same_map", "twice"])
def test_each_lesson_can_be_learned(F, term):
    torch.manual_seed(0)
    G, weights = (
        nn.ModuleList([LightInterpolator(8, 8)]),
        DistillationWeights(**{"same_map": 0.0, "twice": 0.0, term: 1.0}),
    )
    optimizer = torch.optim.Adam(G.parameters(), 1e-2)
    course = []
    for _ in range(25):
        loss = light.distillation_losses(F, G, pictures(), weights)[term]
        course.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert course[-1] < 0.8 * course[0]


@pytest.mark.parametrize("name", ["light", "light-agnostic", "deconv"])
def test_the_stages(settings, run, name):
    whole = settings(name) if name != "deconv" else settings(model=settings().model)
    if name == "deconv":
        whole = replace(whole, model=replace(whole.model, interpolator="deconv", interpolator_options={}))
    folder = run(whole)
    G = light.train(whole, folder, "interpolator")
    assert set(folder.stages()) == {"teacher", "interpolator"}
    T = light.train(whole, folder)
    assert set(folder.stages()) == {"teacher", "interpolator", "target"}
    assert len(get_interpolators(T)) == len(G) == (3 if name == "deconv" else 1)
    for part, file in zip(G, light.interpolator_weight_files(folder.folder, len(G)), strict=True):
        kept = checkpoints.load(file).state_dict()
        assert all(torch.equal(value, kept[key]) for key, value in part.state_dict().items())
    again, _ = baseline.load_detector(folder.folder)
    assert all(torch.equal(value, T.state_dict()[key]) for key, value in again.state_dict().items())


@pytest.mark.parametrize("start", ["teacher", "weights"])
def test_what_the_target_starts_from(settings, run, monkeypatch, start):
    whole = settings(start=start)
    folder = run(whole)
    teacher = light.train(whole, folder, "teacher").state_dict()
    G = light.train(whole, folder, "interpolator").state_dict()
    kept = {}
    monkeypatch.setattr(baseline, "descend", lambda T, *_: kept.update(T.state_dict()))
    monkeypatch.setattr(
        light, "teachers", lambda *_: [baseline.load_detector(folder.folder / "teacher.safetensors")[0]]
    )
    light.train(whole, folder)
    assert all(torch.equal(value, kept[f"backbone.pyramid.interpolators.{name}"]) for name, value in G.items())
    others = [name for name in teacher if ".interpolators." not in name and teacher[name].is_floating_point()]
    assert all(torch.equal(teacher[name], kept[name]) for name in others) == (start == "teacher")


def test_an_agnostic_one_is_taught_by_two_pyramids_and_used_on_a_third(settings, run, model):
    """Teachers of 8 and 12 channels, a target of 10, all in one chain of runs."""
    files = []
    for channels in (8, 12):
        one = replace(model("pixel-shuffle"), pyramid_channels=channels)
        files.append(
            str(
                baseline.save_detector(
                    baseline.build_detector(one, 3), one, list("abc"), run().folder, f"{channels}.safetensors"
                )
            )
        )
    whole = settings("light-agnostic", teachers_from=tuple(files))
    first = run(whole, "taught")
    (G,) = light.train(whole, first, "interpolator")
    assert isinstance(G, ChannelAgnosticInterpolator)
    assert any(p.any() for p in [G.last.weight])
    other = replace(
        whole, model=replace(whole.model, pyramid_channels=10), start="weights", interpolator_from=str(first.folder)
    )
    second = run(other, "used")
    T = light.train(other, second)
    assert set(second.stages()) == {"target"}
    assert T([torch.rand(3, 64, 64)], [{"boxes": torch.tensor([[1.0, 1, 30, 30]]), "labels": torch.tensor([1])}])


def test_nearest_has_nothing_to_teach_but_its_large_picture(settings, run):
    whole = settings(heavy="nearest")
    with pytest.raises(ValueError, match=r"nearest interpolation: there is nothing to learn.*lessons.same_map to 0"):
        light.train(whole, run(whole), "interpolator")
    alone = replace(whole, loss_weights=DistillationWeights(same_resolution=0))
    folder = run(alone, "alone")
    light.train(alone, folder, "interpolator")
    assert set(folder.trace("interpolator")[0]) >= {"twice"}


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (lambda: DistillationWeights(0, 0), "one must be above 0"),
        (lambda: DistillationWeights(1, -1), "neither may be negative"),
        (lambda: Settings(target_init="F"), "choose 'teacher' or 'weights'"),
        (lambda: light.train(Settings.quick(), None, "extractor"), "there are teacher, interpolator, target"),
    ],
)
def test_what_does_not_exist_is_refused_at_once(made, told):
    with pytest.raises(ValueError, match=told):
        made()


def test_defaults():
    whole, quick = Settings(), Settings.quick()
    assert (whole.model.interpolator, whole.teacher_interpolator, whole.model.detector) == ("light", "afi", "mask-rcnn")
    assert (quick.model.interpolator, quick.model.pyramid_channels) == ("light", 64)
    assert quick.interpolator.steps + quick.teacher.steps + quick.target.steps == 1000
