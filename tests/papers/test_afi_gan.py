import json
import os
import re
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from featlift import resolution
from featlift.cli import parser
from featlift.detectors import Extractor, get_extractor, get_interpolators
from featlift.discriminators import PatchDiscriminator
from featlift.distillation import feature_pairs
from featlift.distillation.feature_pairs import DownscaleConfig
from featlift.losses import pyramid_l1
from featlift.papers import afi_gan, baseline
from featlift.papers.afi_gan import INTERPOLATOR_PREFIX, AdversarialConfig, Settings
from featlift.training import Learner

WORKER = Path(__file__).parent / "two_processes.py"


class Stopped(Exception):
    """What kills a run in these tests."""


def state(module):
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def moved(before, module):
    """Names of the tensors of ``module`` that are not bit-equal to ``before``."""
    return {name for name, value in module.state_dict().items() if not torch.equal(value, before[name])}


class Players:
    """F, G, D and M of a chain, and each stage's step on one batch without the loop around it."""

    def __init__(self, settings, run):
        self.settings, self.run = settings, run
        self.stream = baseline.build_train_loader(settings.data, baseline.build_dataset(settings.data), 0)
        build = lambda interpolator, **options: baseline.build_detector(  # noqa: E731
            replace(settings.model, interpolator=interpolator, interpolator_options=options), 6
        )
        self.teacher = build("nearest")
        self.F = resolution.frozen_copy(get_extractor(self.teacher))
        self.M = baseline.build_detector(settings.model, 6)
        self.G = nn.ModuleList(baseline.build_pyramid_interpolators(settings.model))
        self.D = PatchDiscriminator(settings.model.channels, settings.adversary.end, settings.adversary.init)

    def stage_1(self):
        afi_gan.pretrain_interpolator(self.F, self.G, self.D, self.settings, self.stream, self.run)

    def stage_2(self):
        afi_gan.train_extractor(self.F, self.M, self.D, self.settings, self.stream, self.run)

    def stage_3(self):
        baseline.train_detector(self.M, self.stream, self.settings.target, self.run, "target")


@pytest.fixture
def players(settings, run):
    def make(interpolator="afi", name="run", **changes):
        torch.manual_seed(0)
        whole = settings(interpolator, **changes)
        return Players(whole, run(whole, name))

    return make


# ------------------------------------------------------------------------------------------------ who moved


def learning(module):
    return {name for name, p in module.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("interpolator", ["afi", "srf", "deconv"])
def test_stage_1_moves_the_interpolator_and_the_critic_and_nothing_else(players, interpolator):
    p = players(interpolator)
    before = {part: state(getattr(p, part)) for part in ("F", "G", "D", "M")}
    p.stage_1()
    assert moved(before["F"], p.F) == moved(before["M"], p.M) == set()
    assert moved(before["G"], p.G) >= learning(p.G)
    assert moved(before["D"], p.D) >= learning(p.D)


def test_stage_2_moves_the_extractor_its_detector_and_the_critic(players):
    p = players()
    before = {part: state(getattr(p, part)) for part in ("F", "G", "D", "M")}
    p.stage_2()
    assert moved(before["F"], p.F) == moved(before["G"], p.G) == set()
    assert moved(before["D"], p.D) >= learning(p.D)
    still = learning(p.M) - moved(before["M"], p.M)
    assert not [name for name in still if name.startswith((INTERPOLATOR_PREFIX, "backbone.pyramid"))]
    assert {"rpn.head.conv.0.0.weight", "roi_heads.box_head.fc6.weight"} <= moved(before["M"], p.M)


def test_stage_3_moves_everything_that_may_learn(players):
    p = players(steps=2)  # blocks of the backbone start with a zero in front of their last norm
    before = state(p.M)
    p.stage_3()
    still = learning(p.M) - moved(before, p.M)
    assert not [name for name in still if name.startswith(("backbone", "rpn.head.conv"))]


@pytest.mark.parametrize("interpolator", ["afi", "srf"])
def test_a_frozen_interpolator_keeps_its_weights_and_its_statistics(players, interpolator):
    p = players(interpolator)
    resolution.freeze(get_interpolators(p.M))
    before = state(get_interpolators(p.M))
    p.stage_3()
    assert moved(before, get_interpolators(p.M)) == set()
    assert (interpolator == "srf") == any("running_mean" in name for name in before)


def test_unfrozen_batch_norm_statistics_would_have_moved(players):
    p = players("srf")
    before = state(get_interpolators(p.M))
    p.stage_3()
    assert any("running_mean" in name for name in moved(before, get_interpolators(p.M)))


def test_no_player_moves_in_the_others_turn(players, monkeypatch):
    p = players()
    turns = []
    plain = Learner.step

    def watched(learner, losses):
        mine = {id(q) for q in learner.module.parameters()}
        others = [q for q in [*p.G.parameters(), *p.D.parameters()] if id(q) not in mine]
        before = [q.detach().clone() for q in others]
        said = plain(learner, losses)
        turns.append((type(learner.module).__name__, sorted(losses)))
        assert all(torch.equal(a, b) for a, b in zip(before, others, strict=True))
        assert all(q.grad is None for q in others)
        return said

    monkeypatch.setattr(Learner, "descend", watched)
    p.stage_1()
    assert turns == [("PatchCritic", ["critic"]), ("ModuleList", ["adversarial", "content"])]


# ------------------------------------------------------------------------------------------------ the loss terms


def pair(channels=8):
    """A student's and a teacher's maps, made by one convolution G, and the critic that judges them."""
    torch.manual_seed(1)
    G, D = nn.Conv2d(channels, channels, 3, padding=1), PatchDiscriminator(channels)
    low = {level: torch.randn(2, channels, 8, 8) for level in ("p2", "p3")}
    return G, D, {level: G(x) for level, x in low.items()}, {level: torch.randn_like(x) for level, x in low.items()}


def gradient(adversary, terms=("content", "adversarial")):
    G, D, student, teacher = pair()
    critic = {"critic": Learner(D, afi_gan._sgd_multistep(1e-3, 0.5), 1)} if adversary.weight else {}
    _, losses = afi_gan.adversarial_step(D, critic, student, teacher, adversary)
    total = sum(losses[name] for name in terms if name in losses)
    found = torch.autograd.grad(total, list(G.parameters()), allow_unused=True)
    return torch.cat([g.flatten() for g in found if g is not None] or [torch.zeros(0)])


@pytest.mark.parametrize("term", ["content", "adversarial"])
def test_each_term_alone_teaches_the_interpolator(term):
    assert gradient(AdversarialConfig(), [term]).abs().sum() > 0


def test_the_adversarial_term_is_alive():
    assert not torch.equal(gradient(AdversarialConfig(weight=1e-3)), gradient(AdversarialConfig(), ["content"]))


def test_weight_zero_is_l1_alone():
    assert torch.equal(gradient(AdversarialConfig(weight=0.0)), gradient(AdversarialConfig(), ["content"]))


def test_the_published_code_adds_a_constant():
    dead = Settings.official().adversarial
    assert not len(gradient(replace(dead, init="small"), ["adversarial"]))
    assert torch.equal(gradient(dead), gradient(AdversarialConfig(), ["content"]))


def test_the_critic_descends_on_what_it_is_told(players):
    _, D, student, teacher = pair()
    before = state(D)
    critic = {"critic": Learner(D, afi_gan._sgd_multistep(1e-3, 0.5), 1)}
    said, losses = afi_gan.adversarial_step(D, critic, student, teacher, AdversarialConfig(weight=2.0))
    assert set(said) == {"critic", "accuracy_real", "accuracy_fake"}
    assert moved(before, D) >= learning(D)
    logits = torch.nn.functional.softplus  # -log σ(x) = softplus(-x)
    assert losses["content"].item() == pytest.approx(
        sum((student[k] - teacher[k]).abs().mean().item() for k in student), rel=1e-5
    )
    by_hand = 2.0 * sum(logits(-D(x)).mean().item() for x in student.values())
    assert losses["adversarial"].item() == pytest.approx(by_hand, rel=1e-5)


def test_with_windows_the_critic_sees_only_them_and_the_content_is_compared_everywhere():
    D = PatchDiscriminator(2, width_mult=1)
    student, teacher = ({"p2": torch.randn(2, 2, 96, 96, requires_grad=True)} for _ in range(2))
    shown = []
    D.register_forward_pre_hook(lambda _, given: shown.append(tuple(given[0].shape)))
    critic = {"critic": Learner(D, afi_gan._sgd_multistep(1e-3, 0.5), 1)}
    _, losses = afi_gan.adversarial_step(D, critic, student, teacher, AdversarialConfig(num_patches=2))
    assert shown == [(4, 2, 40, 40)] * 3  # two windows of two pictures: G's, the real ones, and G's again
    assert losses["content"].item() == pytest.approx((student["p2"] - teacher["p2"]).abs().mean().item())
    reached = torch.autograd.grad(losses["adversarial"], student["p2"])[0].any(dim=1)
    assert 0 < reached.sum() <= 4 * 40 * 40


@pytest.mark.parametrize(
    "term", ["content", "adversarial", "loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg"]
)
def test_each_term_of_stage_2_alone_moves_the_extractor(players, monkeypatch, term):
    p = players()
    seen = {}
    plain = Learner.step

    def alone(learner, losses):
        if learner.module is p.M:
            given = torch.autograd.grad(
                losses[term], [*p.M.backbone.pyramid.parameters()], allow_unused=True, retain_graph=True
            )
            seen[term] = sum(g.abs().sum() for g in given if g is not None)
        return plain(learner, losses)

    monkeypatch.setattr(Learner, "descend", alone)
    p.stage_2()
    assert seen[term] > 0


@pytest.mark.parametrize("stage", ["stage_1", "stage_2"])
def test_without_weight_there_is_no_critic_at_all(players, stage):
    p = players(adversary=AdversarialConfig(weight=0.0))
    counted, before = Counted(D=p.D), state(p.D)
    getattr(p, stage)()
    assert counted.numbers() == {"D": 0}
    assert moved(before, p.D) == set()
    assert not {"critic", "adversarial", "accuracy_real", "rate/critic"} & set(p.run.trace()[0])
    assert p.run.trace()[0]["content"] > 0


# ------------------------------------------------------------------------------------------------ what is compared (Table 7)


def test_different_levels_are_one_picture_and_a_doubling_apart(players, compared, marked):
    p = players(semantics="different", adversary=AdversarialConfig(weight=0.0))
    p.stream = Same(marked, 75, 101)
    counted = Counted(F=p.F, M=p.M.backbone, G=p.M.backbone.pyramid.interpolators[0])
    p.stage_2()
    assert counted.numbers() == {"F": 1, "M": 1, "G": 3 + 4}  # in the pyramid, and on p3 … p6
    ((student, teacher),) = compared
    assert student == teacher == {"p2": (24, 32), "p3": (12, 16), "p4": (6, 8), "p5": (3, 4)}


def test_different_levels_by_hand(players, marked):
    p = players("nearest", semantics="different")
    M, images = p.M.train(), [torch.rand(3, 64, 64)]
    seen = feature_pairs.pair_different_levels(
        feature_pairs.batched_extractor(p.F), M, (images, [marked(64, 64)[1]]), p.settings.halving
    )
    assert torch.equal(seen.student["p3"], seen.features["p4"].repeat_interleave(2, -1).repeat_interleave(2, -2))
    assert torch.equal(seen.teacher["p3"], p.F(images[0][None])["p3"])
    assert list(seen.student) == ["p2", "p3", "p4", "p5"]
    assert seen.targets[0]["boxes"].tolist() == marked(64, 64)[1]["boxes"].tolist()


# ------------------------------------------------------------------------------------------------ sizes


@pytest.fixture
def compared(monkeypatch):
    """The sizes of all maps that a stage compares."""
    sizes = []

    def watched(student, teacher):
        sizes.append(
            ({k: tuple(x.shape[-2:]) for k, x in student.items()}, {k: tuple(x.shape[-2:]) for k, x in teacher.items()})
        )
        return pyramid_l1(student, teacher)

    monkeypatch.setattr(afi_gan, "content", watched)
    return sizes


class Same:
    """Endless batches of one odd picture."""

    def __init__(self, marked, *size):
        self.batch = [torch.rand(3, *size) for _ in range(2)], [marked(*size)[1] for _ in range(2)]

    def since(self, step, rank=0, world=1):
        while True:
            yield self.batch


@pytest.mark.parametrize("size", [(75, 101), (64, 64), (97, 65)])
def test_maps_have_equal_sizes_for_odd_pictures(players, compared, marked, size):
    p = players()
    p.stream = Same(marked, *size)
    p.stage_1()
    p.stage_2()
    assert len(compared) == 2
    for student, teacher in compared:
        assert student == teacher
        assert set(student) == {"p2", "p3", "p4", "p5", "p6"}
    assert all(cells >= side // 4 for cells, side in zip(compared[0][0]["p2"], size, strict=True))
    assert all(cells >= side // 8 for cells, side in zip(compared[1][0]["p2"], size, strict=True))


@pytest.mark.parametrize("same_flip", [True, False])
def test_the_published_small_view_goes_through_both_stages(settings, run, data, compared, same_flip):
    """Resized pictures of odd sizes with masks; the small view is made before the resizing, and must fit boxes and masks."""
    odd = data(short=(75, 83), longest=100)
    whole = settings(data=odd, halving=DownscaleConfig(feature_mode="nearest", from_original=True, same_flip=same_flip))
    afi_gan.train(whole, run(whole), "extractor")
    assert len(compared) == 2
    assert all(student == teacher for student, teacher in compared)
    stream = baseline.build_train_loader(odd, baseline.build_dataset(odd), 0, True)
    images, targets = next(stream.iter_from(0))
    small, told = feature_pairs.downscale_batch(images, targets, whole.halving)
    for image, little, target in zip(images, small, told, strict=True):
        assert little.shape[-2:] == tuple(side // 2 for side in image.shape[-2:]) == target["masks"].shape[-2:]
        if same_flip:
            assert (little - resolution.downscale_images([image])[0]).abs().mean() < 0.05


# ------------------------------------------------------------------------------------------------ no work is done twice


class Counted:
    """How often each module ran, and whether a graph came out."""

    def __init__(self, **modules):
        self.calls = {name: [] for name in modules}
        for name, module in modules.items():
            module.register_forward_hook(lambda m, x, y, name=name: self.calls[name].append(self.graph(y)))

    @staticmethod
    def graph(y):
        return any(x.requires_grad for x in (y.values() if isinstance(y, dict) else [y]))

    def numbers(self):
        return {name: len(calls) for name, calls in self.calls.items()}


def test_stage_1_does_nothing_twice(players):
    p = players(steps=2)
    counted = Counted(F=p.F, G=p.G[0], D=p.D)
    p.stage_1()
    assert counted.numbers() == {"F": 2 * 2, "G": 2 * 5, "D": 2 * 3 * 5}
    assert not any(counted.calls["F"])


def test_stage_2_does_nothing_twice(players):
    p = players(steps=2)
    counted = Counted(F=p.F, M=p.M.backbone, inside=p.M.backbone.pyramid.interpolators[0], D=p.D)
    p.stage_2()
    assert counted.numbers() == {"F": 2, "M": 2, "inside": 2 * 3, "D": 2 * 3 * 5}
    assert not any(counted.calls["F"])


# ------------------------------------------------------------------------------------------------ the chain


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture
def start(monkeypatch):
    """What T has before its first step."""
    kept = {}

    def untouched(T, stream, stage, run, name):
        if name == "target":
            kept.update(state(T))
        else:
            plain(T, stream, stage, run, name)

    plain = baseline.train_detector
    monkeypatch.setattr(baseline, "descend", untouched)
    return kept


@pytest.fixture
def made(monkeypatch):
    """The G of stage 1 and the M of stage 2 as they were when T took over."""
    kept = {}

    def noted(name, take):
        plain = getattr(afi_gan, name)

        def wrapped(*arguments):
            result = plain(*arguments)
            kept[name] = state(take(result))
            return result

        monkeypatch.setattr(afi_gan, name, wrapped)

    noted("interpolator", lambda result: result[0])
    noted("extractor", lambda result: result)
    return kept


@pytest.mark.parametrize("reuse", afi_gan.REUSE_MODES)
def test_what_the_target_takes_over(settings, run, start, made, reuse):
    whole = settings(reuse=reuse)
    afi_gan.train(whole, run(whole))
    G = {
        name.removeprefix(INTERPOLATOR_PREFIX): value
        for name, value in start.items()
        if name.startswith(INTERPOLATOR_PREFIX)
    }
    rest = {name: value for name, value in start.items() if not name.startswith(INTERPOLATOR_PREFIX)}
    assert set(made) == {"none": set(), "G": {"interpolator"}}.get(reuse, {"interpolator", "extractor"})
    if reuse == "G":
        assert same(G, made["interpolator"])
    if reuse in ("G_from_M", "M"):
        M = made["extractor"]
        assert all(torch.equal(value, M[INTERPOLATOR_PREFIX + name]) for name, value in G.items())
        assert not same(G, made["interpolator"])
        equal = {name for name, value in rest.items() if torch.equal(value, M[name])}
        assert (equal == set(rest)) == (reuse == "M")
        assert reuse == "M" or "backbone.pyramid.inner_blocks.0.0.weight" not in equal


def test_the_target_can_start_from_the_teacher_with_the_interpolator_of_M(settings, run, start, made):
    whole = settings("afi", target_start="teacher", reuse="G_from_M")
    folder = run(whole)
    afi_gan.train(whole, folder)
    F = baseline.load_detector(folder.folder / "teacher.safetensors")[0].state_dict()
    learned = {name for name in start if name.startswith(INTERPOLATOR_PREFIX)}
    assert learned
    assert all(torch.equal(start[name], made["extractor"][name]) for name in learned)
    assert set(F) == set(start) - learned
    assert all(torch.equal(start[name], F[name]) for name in F)


@pytest.mark.parametrize(
    ("until", "kind", "stages"),
    [
        ("teacher", baseline.Detector, {"teacher"}),
        ("interpolator", nn.ModuleList, {"teacher", "interpolator"}),
        ("extractor", baseline.Detector, {"teacher", "interpolator", "extractor"}),
    ],
)
def test_the_chain_can_end_early(settings, run, until, kind, stages):
    whole = settings()
    folder = run(whole)
    assert isinstance(afi_gan.train(whole, folder, until), kind)
    assert set(folder.stages()) == stages


def test_an_unknown_stage_is_refused(settings, run):
    with pytest.raises(ValueError, match="no stage 'pretrain'; there are teacher, interpolator, extractor, target"):
        afi_gan.train(settings(), run(), "pretrain")


def test_parts_of_other_runs_are_taken_and_their_stages_left_out(settings, run, start, made):
    whole = settings()
    first = run(whole, "first")
    M = state(afi_gan.train(whole, first, "extractor"))
    G = made["interpolator"]
    teacher = str(first.folder / "teacher.safetensors")

    from_F = replace(whole, teacher_from=teacher)
    second = run(from_F, "second")
    afi_gan.train(from_F, second, "interpolator")
    assert set(second.stages()) == {"interpolator"}

    from_G = replace(whole, teacher_from=teacher, interpolator_from=str(first.folder))
    third = run(from_G, "third")
    afi_gan.train(from_G, third, "extractor")
    assert set(third.stages()) == {"extractor"}
    assert same(made["interpolator"], G)

    from_M = replace(whole, extractor_from=str(first.folder / "extractor.safetensors"), reuse="M")
    fourth = run(from_M, "fourth")
    afi_gan.train(from_M, fourth)
    assert set(fourth.stages()) == set()  # T's own stage is left out by this test
    assert same(start, M)


def test_an_interpolator_that_does_not_fit_is_refused(settings, run, model):
    whole = settings()
    first = run(whole, "first")
    afi_gan.train(whole, first, "interpolator")
    other = replace(whole, model=model("afi", growth=2, blocks=1), interpolator_from=str(first.folder))
    with pytest.raises(ValueError, match="does not fit AFI"):
        afi_gan.train(other, run(other, "second"), "interpolator")
    nowhere = replace(whole, interpolator_from="nowhere")
    with pytest.raises(FileNotFoundError, match=r"nowhere/G\.safetensors"):
        afi_gan.train(nowhere, run(nowhere, "third"), "interpolator")


@pytest.mark.parametrize("interpolator", ["afi", "deconv"])
def test_an_extractor_with_another_head(settings, run, start, made, interpolator):
    """Table 3: RetinaNet has no p2; what makes the target's p2 starts anew, p3 … p5 are those of the extractor."""
    whole = settings(interpolator, extractor_detector="retinanet", extractor_start="teacher", reuse="M")
    afi_gan.train(whole, run(whole))
    M = made["extractor"]
    for blocks in ("inner", "layer"):
        name = f"backbone.pyramid.{blocks}_blocks.{{}}.0.weight"
        for level in (0, 1, 2):
            assert torch.equal(start[name.format(level + 1)], M[name.format(level)])
    assert not any(
        torch.equal(start["backbone.pyramid.layer_blocks.0.0.weight"], M[f"backbone.pyramid.layer_blocks.{i}.0.weight"])
        for i in range(3)
    )
    steps = {"afi": 1, "deconv": 2}[interpolator]
    taken = [n for n in M if n.startswith(INTERPOLATOR_PREFIX)]
    assert {n.removeprefix(INTERPOLATOR_PREFIX).split(".")[0] for n in taken} == {str(i) for i in range(steps)}
    assert all(torch.equal(start[n], M[n]) for n in taken)


@pytest.mark.parametrize("interpolator", ["nearest", "deconv"])
def test_every_kind_of_interpolator_goes_through_the_stages(settings, run, interpolator):
    whole = settings(interpolator)
    folder = run(whole)
    T = afi_gan.train(whole, folder)
    assert len(get_interpolators(T)) == {"nearest": 1, "deconv": 3}[interpolator]
    fixed = interpolator == "nearest"
    assert set(folder.stages()) == {"teacher", "extractor", "target"} | (set() if fixed else {"interpolator"})
    files = {path.name for path in folder.folder.glob("*.safetensors")}
    assert files == {"teacher.safetensors", "extractor.safetensors", "detector.safetensors"} | (
        set() if fixed else {"G0.safetensors", "G1.safetensors", "G2.safetensors", "D.safetensors"}
    )


PAGE = Path(__file__).parents[2] / "docs" / "papers" / "afi_gan.md"
COMMANDS = re.findall(r"^\| [–\d] \| .+ \| `(.+)` \|$", PAGE.read_text(), re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_ablation_of_the_page_is_a_command(command):
    paper, *words = command.split()
    found = parser.parse_training_args(paper, "featlift train", words)
    for option, value in zip(words[::2], words[1::2], strict=True):
        there = found["running"] if option == "--stop_after" else found["settings"]
        for name in option[2:].split("."):
            there = getattr(there, name)
        assert str(there).lower() in (value.lower(), f"{value}.0")


def test_the_page_has_them_all():
    assert len(COMMANDS) == 23
    assert {f"afi-gan --reuse {reuse}" for reuse in afi_gan.REUSE_MODES} <= set(COMMANDS)


@pytest.mark.parametrize(
    ("interpolator", "changes", "count"),
    [
        ("bilinear-5conv", {}, 3),
        ("afi", {"sharing": "each"}, 3),
        ("deconv", {"sharing": "shared"}, 1),
        ("afi", {"pyramid": "fpn-top-down"}, 1),
        ("afi-rb", {}, 1),
    ],
)
def test_ablations_of_the_network_go_through_the_stages(settings, run, interpolator, changes, count):
    whole = settings(interpolator, adversary=AdversarialConfig(weight=0.0))
    whole = replace(whole, model=replace(whole.model, **changes))
    folder = run(whole)
    T = afi_gan.train(whole, folder)
    assert len(get_interpolators(T)) == count
    assert set(folder.stages()) == set(afi_gan.STAGES)
    files = {path.stem for path in folder.folder.glob("G*.safetensors")}
    assert files == ({"G"} if count == 1 else {"G0", "G1", "G2"})
    assert not (folder.folder / "D.safetensors").exists()


def test_masks_are_learned_in_every_stage(settings, run, model):
    whole = settings(model=model("afi", "mask-rcnn", growth=4, blocks=1))
    folder = run(whole)
    T = afi_gan.train(whole, folder).eval()
    for stage in ("teacher", "extractor", "target"):
        assert folder.trace(stage)[0]["loss_mask"] > 0
    assert "masks" in T([torch.rand(3, 64, 64)])[0]


# ------------------------------------------------------------------------------------------------ killed and resumed


def test_recomputed_maps_teach_the_same(settings, run):
    kept = settings("srf")  # with batch norm
    again = replace(kept, model=replace(kept.model, execution="recomputed"))
    first, second = (
        state(afi_gan.train(whole, run(whole, name), "extractor")) for whole, name in ((kept, "kept"), (again, "again"))
    )
    assert same(first, second)


def test_a_run_killed_in_stage_2_ends_as_the_unbroken_one(settings, run, monkeypatch):
    whole = settings(steps=3)
    unbroken = run(whole, "unbroken")
    expected = state(afi_gan.train(whole, unbroken))

    plain, calls = afi_gan.losses_from_features, []

    def dies(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise Stopped
        return plain(*arguments)

    monkeypatch.setattr(afi_gan, "losses_on", dies)
    with pytest.raises(Stopped):
        afi_gan.train(whole, run(whole, "killed", save_every=1))
    monkeypatch.setattr(afi_gan, "losses_on", plain)
    resumed = run(whole, "killed", save_every=1)
    assert resumed.stages()["extractor"]["step"] == 1
    assert same(state(afi_gan.train(whole, resumed)), expected)
    assert resumed.trace() == unbroken.trace()


def test_a_run_goes_on_only_with_its_own_settings(settings, run):
    whole = settings()
    afi_gan.train(whole, run(whole), "teacher")
    with pytest.raises(ValueError, match=r"adversary.weight: 0.001 there, 0.01 now"):
        run(replace(whole, adversarial=AdversarialConfig(weight=0.01)))


# ------------------------------------------------------------------------------------------------ two processes


def test_two_processes_teach_the_interpolator_what_one_does(tmp_path):
    """L1 alone: the critic's batch norms see each process's own share, so its opinion is not the big batch's."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(WORKER), str(tmp_path)], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    alone, first, second = (torch.load(tmp_path / f"{name}.pt") for name in ("alone", "rank0", "rank1"))
    assert same(first, second)
    for name, value in alone.items():
        torch.testing.assert_close(
            first[name], value, rtol=1e-4, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}"
        )
    logs = [(tmp_path / name / "log.jsonl").read_text().splitlines() for name in ("one", "two")]
    contents = [[json.loads(line)["content"] for line in log] for log in logs]
    assert contents[1] == pytest.approx(contents[0], rel=1e-4)
    assert len(contents[0]) == 2


# ------------------------------------------------------------------------------------------------ settings


def test_defaults_are_the_papers():
    paper = Settings()
    stages = {name: getattr(paper, name) for name in afi_gan.STAGES}
    assert {name: stage.steps for name, stage in stages.items()} == {
        "teacher": 270_000, "interpolator": 150_000, "extractor": 270_000, "target": 90_000,
    }  # fmt: skip
    rates = lambda stage, *steps: [stage.descent.rate_at(step, stage.steps) for step in steps]  # noqa: E731
    assert rates(stages["interpolator"], 0, 119_999, 120_000) == pytest.approx([1e-3, 1e-3, 1e-4])
    assert rates(stages["extractor"], 0, 209_999, 210_000, 250_000) == pytest.approx([0.02, 0.02, 0.002, 0.0002])
    assert rates(stages["target"], 1_000, 59_999, 60_000, 80_000) == pytest.approx([0.02, 0.02, 0.002, 0.0002])
    assert (paper.data.batch_size, paper.data.max_size, paper.data.min_size) == (
        16,
        1333,
        (640, 672, 704, 736, 768, 800),
    )
    assert (paper.adversarial.weight, paper.adversarial.last_kernel, paper.adversarial.backprop_to_generator) == (
        0.001,
        3,
        True,
    )
    assert (paper.downscale.image_mode, paper.downscale.feature_mode, paper.downscale.same_flip) == (
        "bilinear",
        "bilinear",
        True,
    )
    assert (paper.model.detector, paper.model.backbone, paper.model.pyramid_channels) == ("mask-rcnn", "resnet50", 256)
    assert (paper.model.interpolator, paper.reuse, paper.freeze_interpolator) == ("afi", "G_from_M", False)
    assert all(stage.descent.optimizer == "sgd" and stage.descent.momentum == 0.9 for stage in stages.values())
    assert all(stage.descent.weight_decay == 1e-4 for stage in stages.values())


def test_official_is_what_the_published_code_does():
    code = Settings.official()
    assert (code.data.batch_size, code.adversarial.backprop_to_generator, code.adversarial.init) == (
        8,
        False,
        "official",
    )
    assert (code.downscale.feature_mode, code.downscale.same_flip, code.extractor_init) == ("nearest", False, "teacher")
    assert (code.interpolator.steps, code.extractor.steps, code.target.steps) == (300_000, 180_000, 270_000)
    assert code.extractor.optimizer.lr_at(120_000, 180_000) == pytest.approx(0.001)
    assert code.model.interpolator_options == {"init": "official"}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"reuse": "all"}, "Unknown reuse 'all'; choose one of none, G, G_from_M, M"),
        ({"semantics": "other"}, "Unknown semantics 'other'; choose one of same, different"),
        ({"extractor_start": "random"}, "extractor_start 'random'; choose 'weights' or 'teacher'"),
        ({"target_start": ""}, "target_start ''; choose 'weights' or 'teacher'"),
        ({"extractor_detector": "retina"}, "Unknown detector 'retina'. Did you mean 'retinanet'"),
    ],
)
def test_settings_that_do_not_exist_are_refused_at_once(changes, told):
    with pytest.raises(ValueError, match=told):
        Settings(**changes)


def test_the_extractor_is_the_papers_F(players):
    p = players()
    assert isinstance(p.F, Extractor)
    assert not p.F.training
    assert not any(q.requires_grad for q in p.F.parameters())
