import json
import re
import socket
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.forked_scripts import run_script
from torch import nn

from featlift import resolution
from featlift.baseline.training import train_detector
from featlift.cli import parser
from featlift.data.config import build_dataset, build_train_loader
from featlift.detectors import Detector, Extractor, get_extractor, get_interpolators
from featlift.detectors.checkpoint import INTERPOLATOR_PREFIX, load_detector
from featlift.detectors.config import build_detector, build_pyramid_interpolators
from featlift.detectors.from_features import losses_from_features
from featlift.distillation import feature_pairs
from featlift.distillation.discriminator import PatchDiscriminator
from featlift.distillation.feature_pairs import DownscaleConfig
from featlift.losses import pyramid_l1
from featlift.papers import afi_gan
from featlift.papers.afi_gan import Settings, training
from featlift.papers.afi_gan.settings import REUSE_MODES, STAGES, AdversarialConfig, _sgd_multistep
from featlift.papers.afi_gan.training import adversarial_step, pretrain_interpolator, train_extractor
from featlift.training import Learner

WORKER = Path(__file__).parent / "two_processes.py"


class Stopped(Exception):
    """Raised to kill a run in these tests."""


def state(module):
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def moved(before, module):
    """Names of the tensors of ``module`` that are not bit-equal to ``before``."""
    return {name for name, value in module.state_dict().items() if not torch.equal(value, before[name])}


class Networks:
    """F, G, D and M, and each stage separately."""

    def __init__(self, settings, run):
        self.settings, self.run = settings, run
        self.loader = build_train_loader(settings.data, build_dataset(settings.data), 0)
        build = lambda interpolator, **options: build_detector(  # noqa: E731
            replace(settings.model, interpolator=interpolator, interpolator_options=options), 6
        )
        self.teacher = build("nearest")
        self.F = resolution.frozen_copy(get_extractor(self.teacher))
        self.M = build_detector(settings.model, 6)
        self.G = nn.ModuleList(build_pyramid_interpolators(settings.model))
        self.D = PatchDiscriminator(
            settings.model.pyramid_channels, settings.adversarial.last_kernel, settings.adversarial.init
        )

    def stage_1(self):
        pretrain_interpolator(self.F, self.G, self.D, self.settings, self.loader, self.run)

    def stage_2(self):
        train_extractor(self.F, self.M, self.D, self.settings, self.loader, self.run)

    def stage_3(self):
        train_detector(self.M, self.loader, self.settings.target, self.run, "target")


@pytest.fixture
def make_networks(settings, run):
    def make(interpolator="afi", name="run", **changes):
        torch.manual_seed(0)
        config = settings(interpolator, **changes)
        return Networks(config, run(config, name))

    return make


# ------------------------------------------------------------------------------------------------ changed weights


def learning(module):
    return {name for name, p in module.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("interpolator", ["afi", "srf", "deconv"])
def test_stage_1_moves_the_interpolator_and_the_discriminator_and_nothing_else(make_networks, interpolator):
    p = make_networks(interpolator)
    before = {part: state(getattr(p, part)) for part in ("F", "G", "D", "M")}
    p.stage_1()
    assert moved(before["F"], p.F) == moved(before["M"], p.M) == set()
    assert moved(before["G"], p.G) >= learning(p.G)
    assert moved(before["D"], p.D) >= learning(p.D)


def test_stage_2_moves_the_extractor_its_detector_and_the_discriminator(make_networks):
    p = make_networks()
    before = {part: state(getattr(p, part)) for part in ("F", "G", "D", "M")}
    p.stage_2()
    assert moved(before["F"], p.F) == moved(before["G"], p.G) == set()
    assert moved(before["D"], p.D) >= learning(p.D)
    still = learning(p.M) - moved(before["M"], p.M)
    assert not [name for name in still if name.startswith((INTERPOLATOR_PREFIX, "backbone.pyramid"))]
    assert {"rpn.head.conv.0.0.weight", "roi_heads.box_head.fc6.weight"} <= moved(before["M"], p.M)


def test_stage_3_moves_everything_that_may_learn(make_networks):
    p = make_networks(steps=2)  # blocks of the backbone start with a zero in front of their last norm
    before = state(p.M)
    p.stage_3()
    still = learning(p.M) - moved(before, p.M)
    assert not [name for name in still if name.startswith(("backbone", "rpn.head.conv"))]


@pytest.mark.parametrize("interpolator", ["afi", "srf"])
def test_a_frozen_interpolator_keeps_its_weights_and_its_statistics(make_networks, interpolator):
    p = make_networks(interpolator)
    resolution.freeze(get_interpolators(p.M))
    before = state(get_interpolators(p.M))
    p.stage_3()
    assert moved(before, get_interpolators(p.M)) == set()
    assert (interpolator == "srf") == any("running_mean" in name for name in before)


def test_unfrozen_batch_norm_statistics_would_have_moved(make_networks):
    p = make_networks("srf")
    before = state(get_interpolators(p.M))
    p.stage_3()
    assert any("running_mean" in name for name in moved(before, get_interpolators(p.M)))


def test_no_network_changes_in_the_update_of_another(make_networks, monkeypatch):
    p = make_networks()
    updates = []
    original = Learner.step

    def recorded(learner, losses):
        mine = {id(q) for q in learner.module.parameters()}
        others = [q for q in [*p.G.parameters(), *p.D.parameters()] if id(q) not in mine]
        before = [q.detach().clone() for q in others]
        log = original(learner, losses)
        updates.append((type(learner.module).__name__, sorted(losses)))
        assert all(torch.equal(a, b) for a, b in zip(before, others, strict=True))
        assert all(q.grad is None for q in others)
        return log

    monkeypatch.setattr(Learner, "step", recorded)
    p.stage_1()
    assert updates == [("PatchDiscriminator", ["discriminator"]), ("ModuleList", ["adversarial", "content"])]


# ------------------------------------------------------------------------------------------------ the loss terms


def pair(channels=8):
    """Maps of a student (one convolution G) and a teacher, and a discriminator."""
    torch.manual_seed(1)
    G, D = nn.Conv2d(channels, channels, 3, padding=1), PatchDiscriminator(channels)
    low = {level: torch.randn(2, channels, 8, 8) for level in ("p2", "p3")}
    return G, D, {level: G(x) for level, x in low.items()}, {level: torch.randn_like(x) for level, x in low.items()}


def gradient(adversarial, terms=("content", "adversarial")):
    G, D, student, teacher = pair()
    discriminator = {"discriminator": Learner(D, _sgd_multistep(1e-3, 0.5), 1)} if adversarial.weight else {}
    _, losses = adversarial_step(D, discriminator, student, teacher, adversarial)
    total = sum(losses[name] for name in terms if name in losses)
    gradients = torch.autograd.grad(total, list(G.parameters()), allow_unused=True)
    return torch.cat([g.flatten() for g in gradients if g is not None] or [torch.zeros(0)])


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


def test_the_discriminator_minimizes_its_own_loss(make_networks):
    _, D, student, teacher = pair()
    before = state(D)
    discriminator = {"discriminator": Learner(D, _sgd_multistep(1e-3, 0.5), 1)}
    log, losses = adversarial_step(D, discriminator, student, teacher, AdversarialConfig(weight=2.0))
    assert set(log) == {"discriminator", "accuracy_real", "accuracy_fake"}
    assert moved(before, D) >= learning(D)
    logits = torch.nn.functional.softplus  # -log σ(x) = softplus(-x)
    assert losses["content"].item() == pytest.approx(
        sum((student[k] - teacher[k]).abs().mean().item() for k in student), rel=1e-5
    )
    by_hand = 2.0 * sum(logits(-D(x)).mean().item() for x in student.values())
    assert losses["adversarial"].item() == pytest.approx(by_hand, rel=1e-5)


def test_with_patches_the_discriminator_gets_only_them_and_the_content_is_compared_everywhere():
    D = PatchDiscriminator(2, width_mult=1)
    student, teacher = ({"p2": torch.randn(2, 2, 96, 96, requires_grad=True)} for _ in range(2))
    shapes = []
    D.register_forward_pre_hook(lambda _, inputs: shapes.append(tuple(inputs[0].shape)))
    discriminator = {"discriminator": Learner(D, _sgd_multistep(1e-3, 0.5), 1)}
    _, losses = adversarial_step(D, discriminator, student, teacher, AdversarialConfig(num_patches=2))
    assert shapes == [(4, 2, 40, 40)] * 3  # two patches of two images: G's, the real ones, and G's again
    assert losses["content"].item() == pytest.approx((student["p2"] - teacher["p2"]).abs().mean().item())
    reached = torch.autograd.grad(losses["adversarial"], student["p2"])[0].any(dim=1)
    assert 0 < reached.sum() <= 4 * 40 * 40


@pytest.mark.parametrize(
    "term", ["content", "adversarial", "loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg"]
)
def test_each_term_of_stage_2_alone_moves_the_extractor(make_networks, monkeypatch, term):
    p = make_networks()
    gradient_sums = {}
    original = Learner.step

    def alone(learner, losses):
        if learner.module is p.M:
            gradients = torch.autograd.grad(
                losses[term], [*p.M.backbone.pyramid.parameters()], allow_unused=True, retain_graph=True
            )
            gradient_sums[term] = sum(g.abs().sum() for g in gradients if g is not None)
        return original(learner, losses)

    monkeypatch.setattr(Learner, "step", alone)
    p.stage_2()
    assert gradient_sums[term] > 0


@pytest.mark.parametrize("stage", ["stage_1", "stage_2"])
def test_without_weight_there_is_no_discriminator_at_all(make_networks, stage):
    p = make_networks(adversarial=AdversarialConfig(weight=0.0))
    counted, before = Counted(D=p.D), state(p.D)
    getattr(p, stage)()
    assert counted.numbers() == {"D": 0}
    assert moved(before, p.D) == set()
    assert not {"discriminator", "adversarial", "accuracy_real", "lr/discriminator"} & set(p.run.read_log()[0])
    assert p.run.read_log()[0]["content"] > 0


# ------------------------------------------------------------------------------------------------ what is compared (Table 7)


def test_different_levels_are_one_image_and_one_upsampling_step_apart(make_networks, compared, marked):
    p = make_networks(level_matching="different", adversarial=AdversarialConfig(weight=0.0))
    p.loader = Same(marked, 75, 101)
    counted = Counted(F=p.F, M=p.M.backbone, G=p.M.backbone.pyramid.interpolators[0])
    p.stage_2()
    assert counted.numbers() == {"F": 1, "M": 1, "G": 3 + 4}  # in the pyramid, and on p3 … p6
    ((student, teacher),) = compared
    assert student == teacher == {"p2": (24, 32), "p3": (12, 16), "p4": (6, 8), "p5": (3, 4)}


def test_different_levels_by_hand(make_networks, marked):
    p = make_networks("nearest", level_matching="different")
    M, images = p.M.train(), [torch.rand(3, 64, 64)]
    features = feature_pairs.pair_different_levels(
        feature_pairs.batched_extractor(p.F), M, (images, [marked(64, 64)[1]]), p.settings.downscale
    )
    assert torch.equal(
        features.student["p3"], features.features["p4"].repeat_interleave(2, -1).repeat_interleave(2, -2)
    )
    assert torch.equal(features.teacher["p3"], p.F(images[0][None])["p3"])
    assert list(features.student) == ["p2", "p3", "p4", "p5"]
    assert features.targets[0]["boxes"].tolist() == marked(64, 64)[1]["boxes"].tolist()


# ------------------------------------------------------------------------------------------------ sizes


@pytest.fixture
def compared(monkeypatch):
    """Sizes of all maps that a stage compares."""
    sizes = []

    def recorded(student, teacher):
        sizes.append(
            ({k: tuple(x.shape[-2:]) for k, x in student.items()}, {k: tuple(x.shape[-2:]) for k, x in teacher.items()})
        )
        return pyramid_l1(student, teacher)

    monkeypatch.setattr(training, "pyramid_l1", recorded)
    return sizes


class Same:
    """Endless batches of one image of odd size."""

    def __init__(self, marked, *size):
        self.batch = [torch.rand(3, *size) for _ in range(2)], [marked(*size)[1] for _ in range(2)]

    def iter_from(self, step, rank=0, world_size=1):
        while True:
            yield self.batch


@pytest.mark.parametrize("size", [(75, 101), (64, 64), (97, 65)])
def test_maps_have_equal_sizes_for_odd_images(make_networks, compared, marked, size):
    p = make_networks()
    p.loader = Same(marked, *size)
    p.stage_1()
    p.stage_2()
    assert len(compared) == 2
    for student, teacher in compared:
        assert student == teacher
        assert set(student) == {"p2", "p3", "p4", "p5"}
    assert all(cells >= side // 4 for cells, side in zip(compared[0][0]["p2"], size, strict=True))
    assert all(cells >= side // 8 for cells, side in zip(compared[1][0]["p2"], size, strict=True))


@pytest.mark.parametrize("same_flip", [True, False])
def test_the_published_small_view_goes_through_both_stages(settings, run, data, compared, same_flip):
    """Resized images of odd sizes with masks; the small view is made before resizing and must match boxes and masks."""
    odd = data(min_size=(75, 83), max_size=100)
    config = settings(
        data=odd, downscale=DownscaleConfig(feature_mode="nearest", from_original=True, same_flip=same_flip)
    )
    afi_gan.train(config, run(config), "extractor")
    assert len(compared) == 2
    assert all(student == teacher for student, teacher in compared)
    loader = build_train_loader(odd, build_dataset(odd), 0, True)
    images, targets = next(loader.iter_from(0))
    small, small_targets = feature_pairs.downscale_batch(images, targets, config.downscale)
    for image, half, target in zip(images, small, small_targets, strict=True):
        assert half.shape[-2:] == tuple(side // 2 for side in image.shape[-2:]) == target["masks"].shape[-2:]
        if same_flip:
            assert (half - resolution.downscale_images([image])[0]).abs().mean() < 0.05


# ------------------------------------------------------------------------------------------------ no repeated computation


class Counted:
    """Number of calls of each module, and whether the outputs require gradients."""

    def __init__(self, **modules):
        self.calls = {name: [] for name in modules}
        for name, module in modules.items():
            module.register_forward_hook(lambda m, x, y, name=name: self.calls[name].append(self.graph(y)))

    @staticmethod
    def graph(y):
        return any(x.requires_grad for x in (y.values() if isinstance(y, dict) else [y]))

    def numbers(self):
        return {name: len(calls) for name, calls in self.calls.items()}


def test_stage_1_does_nothing_twice(make_networks):
    p = make_networks(steps=2)
    counted = Counted(F=p.F, G=p.G[0], D=p.D)
    p.stage_1()
    assert counted.numbers() == {"F": 2 * 2, "G": 2 * 4, "D": 2 * 3 * 4}  # p2 to p5
    assert not any(counted.calls["F"])


def test_stage_2_does_nothing_twice(make_networks):
    p = make_networks(steps=2)
    counted = Counted(F=p.F, M=p.M.backbone, inside=p.M.backbone.pyramid.interpolators[0], D=p.D)
    p.stage_2()
    assert counted.numbers() == {"F": 2, "M": 2, "inside": 2 * 3, "D": 2 * 3 * 4}
    assert not any(counted.calls["F"])


# ------------------------------------------------------------------------------------------------ the chain


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture
def initial_weights(monkeypatch):
    """Weights of T before its first step."""
    weights = {}

    def untouched(T, loader, stage, run, name, *rest):
        if name == "target":
            weights.update(state(T))
        else:
            original(T, loader, stage, run, name, *rest)

    original = train_detector
    monkeypatch.setattr(training, "train_detector", untouched)
    return weights


@pytest.fixture
def stage_weights(monkeypatch):
    """Weights of G after stage 1 and of M after stage 2."""
    weights = {}

    def record(stage, select):
        name = f"run_{stage}_stage"
        original = getattr(training, name)

        def wrapped(*arguments):
            result = original(*arguments)
            weights[stage] = state(select(result))
            return result

        monkeypatch.setattr(training, name, wrapped)

    record("interpolator", lambda result: result[0])
    record("extractor", lambda result: result)
    return weights


@pytest.mark.parametrize("reuse", REUSE_MODES)
def test_which_weights_the_target_reuses(settings, run, initial_weights, stage_weights, reuse):
    config = settings(reuse=reuse)
    afi_gan.train(config, run(config))
    G = {
        name.removeprefix(INTERPOLATOR_PREFIX): value
        for name, value in initial_weights.items()
        if name.startswith(INTERPOLATOR_PREFIX)
    }
    rest = {name: value for name, value in initial_weights.items() if not name.startswith(INTERPOLATOR_PREFIX)}
    assert set(stage_weights) == {"none": set(), "G": {"interpolator"}}.get(reuse, {"interpolator", "extractor"})
    if reuse == "G":
        assert same(G, stage_weights["interpolator"])
    if reuse in ("G_from_M", "M"):
        M = stage_weights["extractor"]
        assert all(torch.equal(value, M[INTERPOLATOR_PREFIX + name]) for name, value in G.items())
        assert not same(G, stage_weights["interpolator"])
        equal = {name for name, value in rest.items() if torch.equal(value, M[name])}
        assert (equal == set(rest)) == (reuse == "M")
        assert reuse == "M" or "backbone.pyramid.inner_blocks.0.0.weight" not in equal


def test_the_target_can_start_from_the_teacher_with_the_interpolator_of_M(
    settings, run, initial_weights, stage_weights
):
    config = settings("afi", target_init="teacher", reuse="G_from_M")
    folder = run(config)
    afi_gan.train(config, folder)
    F = load_detector(folder.folder / "teacher.safetensors")[0].state_dict()
    learned = {name for name in initial_weights if name.startswith(INTERPOLATOR_PREFIX)}
    assert learned
    assert all(torch.equal(initial_weights[name], stage_weights["extractor"][name]) for name in learned)
    assert set(F) == set(initial_weights) - learned
    assert all(torch.equal(initial_weights[name], F[name]) for name in F)


@pytest.mark.parametrize(
    ("stop_after", "kind", "stages"),
    [
        ("teacher", Detector, {"teacher"}),
        ("interpolator", nn.ModuleList, {"teacher", "interpolator"}),
        ("extractor", Detector, {"teacher", "interpolator", "extractor"}),
    ],
)
def test_the_chain_can_end_early(settings, run, stop_after, kind, stages):
    config = settings()
    folder = run(config)
    assert isinstance(afi_gan.train(config, folder, stop_after), kind)
    assert set(folder.stage_progress()) == stages


def test_an_unknown_stage_is_refused(settings, run):
    with pytest.raises(
        ValueError, match="Unknown stage 'pretrain'; choose one of teacher, interpolator, extractor, target"
    ):
        afi_gan.train(settings(), run(), "pretrain")


def test_parts_of_other_runs_are_taken_and_their_stages_left_out(settings, run, initial_weights, stage_weights):
    config = settings()
    first = run(config, "first")
    M = state(afi_gan.train(config, first, "extractor"))
    G = stage_weights["interpolator"]
    teacher = str(first.folder / "teacher.safetensors")

    from_F = replace(config, teacher_from=teacher)
    second = run(from_F, "second")
    afi_gan.train(from_F, second, "interpolator")
    assert set(second.stage_progress()) == {"interpolator"}

    from_G = replace(config, teacher_from=teacher, interpolator_from=str(first.folder))
    third = run(from_G, "third")
    afi_gan.train(from_G, third, "extractor")
    assert set(third.stage_progress()) == {"extractor"}
    assert same(stage_weights["interpolator"], G)

    from_M = replace(config, extractor_from=str(first.folder / "extractor.safetensors"), reuse="M")
    fourth = run(from_M, "fourth")
    afi_gan.train(from_M, fourth)
    assert set(fourth.stage_progress()) == set()  # T's own stage is skipped by this test
    assert same(initial_weights, M)


def test_an_interpolator_that_does_not_fit_is_refused(settings, run, model):
    config = settings()
    first = run(config, "first")
    afi_gan.train(config, first, "interpolator")
    other = replace(config, model=model("afi", growth_rate=2, num_blocks=1), interpolator_from=str(first.folder))
    with pytest.raises(ValueError, match="does not fit AFI"):
        afi_gan.train(other, run(other, "second"), "interpolator")
    nowhere = replace(config, interpolator_from="nowhere")
    with pytest.raises(FileNotFoundError, match=r"nowhere/G\.safetensors"):
        afi_gan.train(nowhere, run(nowhere, "third"), "interpolator")


@pytest.mark.parametrize("interpolator", ["afi", "deconv"])
def test_an_extractor_with_another_head(settings, run, initial_weights, stage_weights, interpolator):
    """Table 3: RetinaNet has no p2; the convolutions of the target's p2 are new, those of p3 … p5 are the extractor's."""
    config = settings(interpolator, extractor_detector="retinanet", extractor_init="teacher", reuse="M")
    afi_gan.train(config, run(config))
    M = stage_weights["extractor"]
    for blocks in ("inner", "layer"):
        name = f"backbone.pyramid.{blocks}_blocks.{{}}.0.weight"
        for level in (0, 1, 2):
            assert torch.equal(initial_weights[name.format(level + 1)], M[name.format(level)])
    assert not any(
        torch.equal(
            initial_weights["backbone.pyramid.layer_blocks.0.0.weight"],
            M[f"backbone.pyramid.layer_blocks.{i}.0.weight"],
        )
        for i in range(3)
    )
    steps = {"afi": 1, "deconv": 2}[interpolator]
    taken = [n for n in M if n.startswith(INTERPOLATOR_PREFIX)]
    assert {n.removeprefix(INTERPOLATOR_PREFIX).split(".")[0] for n in taken} == {str(i) for i in range(steps)}
    assert all(torch.equal(initial_weights[n], M[n]) for n in taken)
    if interpolator == "deconv":  # the third step of the target takes the extractor's finest
        finest = [n for n in taken if n.startswith(f"{INTERPOLATOR_PREFIX}1.")]
        copied = [n.replace(f"{INTERPOLATOR_PREFIX}1.", f"{INTERPOLATOR_PREFIX}2.") for n in finest]
        assert all(torch.equal(initial_weights[a], M[b]) for a, b in zip(copied, finest, strict=True))


def test_the_teacher_has_the_head_of_the_extractor(settings, model, run):
    """Table 3: a RetinaNet whose extractor is trained as Faster R-CNN is compared on p2 … p6, with a step for each level."""
    config = settings("deconv", extractor_detector="faster-rcnn", model=model("deconv", "retinanet"))
    teacher = afi_gan.train(config, run(config), "teacher")
    G = afi_gan.train(config, run(config), "interpolator")
    assert get_extractor(teacher).levels == ("p2", "p3", "p4", "p5", "p6")
    assert len(G) == 3


@pytest.mark.parametrize("interpolator", ["nearest", "deconv"])
def test_every_kind_of_interpolator_goes_through_the_stages(settings, run, interpolator):
    config = settings(interpolator)
    folder = run(config)
    T = afi_gan.train(config, folder)
    assert len(get_interpolators(T)) == {"nearest": 1, "deconv": 3}[interpolator]
    fixed = interpolator == "nearest"
    assert set(folder.stage_progress()) == {"teacher", "extractor", "target"} | (set() if fixed else {"interpolator"})
    files = {path.name for path in folder.folder.glob("*.safetensors")}
    assert files == {"teacher.safetensors", "extractor.safetensors", "detector.safetensors"} | (
        set() if fixed else {"G0.safetensors", "G1.safetensors", "G2.safetensors", "D.safetensors"}
    )


PAGE = Path(__file__).parents[3] / "docs" / "papers" / "afi_gan.md"
COMMANDS = re.findall(r"^\| [–\d] \| .+ \| `(.+)` \|$", PAGE.read_text(), re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_ablation_of_the_page_is_a_command(command):
    paper, *words = command.split()
    parsed = parser.parse_training_args(paper, words)
    for option, value in zip(words[::2], words[1::2], strict=True):
        there = parsed["run_options"] if option == "--stop-after" else parsed["settings"]
        for name in option[2:].replace("-", "_").split("."):
            there = getattr(there, name)
        assert str(there).lower() in (value.lower(), f"{value}.0")


def test_the_page_has_them_all():
    assert len(COMMANDS) == 23
    assert {f"afi-gan --reuse {reuse}" for reuse in REUSE_MODES} <= set(COMMANDS)


@pytest.mark.parametrize(
    ("interpolator", "changes", "count"),
    [
        ("bilinear-5conv", {}, 3),
        ("afi", {"interpolator_sharing": "each"}, 3),
        ("deconv", {"interpolator_sharing": "shared"}, 1),
        ("afi", {"pyramid": "fpn-no-lateral"}, 1),
        ("afi-rb", {}, 1),
    ],
)
def test_ablations_of_the_network_go_through_the_stages(settings, run, interpolator, changes, count):
    config = settings(interpolator, adversarial=AdversarialConfig(weight=0.0))
    config = replace(config, model=replace(config.model, **changes))
    folder = run(config)
    T = afi_gan.train(config, folder)
    assert len(get_interpolators(T)) == count
    assert set(folder.stage_progress()) == set(STAGES)
    files = {path.stem for path in folder.folder.glob("G*.safetensors")}
    assert files == ({"G"} if count == 1 else {"G0", "G1", "G2"})
    assert not (folder.folder / "D.safetensors").exists()


def test_masks_are_learned_in_every_stage(settings, run, model):
    config = settings(model=model("afi", "mask-rcnn", growth_rate=4, num_blocks=1))
    folder = run(config)
    T = afi_gan.train(config, folder).eval()
    for stage in ("teacher", "extractor", "target"):
        assert folder.read_log(stage)[0]["loss_mask"] > 0
    assert "masks" in T([torch.rand(3, 64, 64)])[0]


# ------------------------------------------------------------------------------------------------ killed and resumed


def test_gradient_checkpointing_gives_the_same_weights(settings, run):
    eager = settings("srf")  # with batch norm
    checkpointed = replace(eager, model=replace(eager.model, execution="checkpointed"))
    first, second = (
        state(afi_gan.train(config, run(config, name), "extractor"))
        for config, name in ((eager, "eager"), (checkpointed, "checkpointed"))
    )
    assert same(first, second)


def test_a_run_killed_in_stage_2_ends_as_the_unbroken_one(settings, run, monkeypatch):
    config = settings(steps=3)
    unbroken = run(config, "unbroken")
    expected = state(afi_gan.train(config, unbroken))

    original, calls = losses_from_features, []

    def fail(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise Stopped
        return original(*arguments)

    monkeypatch.setattr(training, "losses_from_features", fail)
    with pytest.raises(Stopped):
        afi_gan.train(config, run(config, "killed", save_every=1))
    monkeypatch.setattr(training, "losses_from_features", original)
    resumed = run(config, "killed", save_every=1)
    assert resumed.stage_progress()["extractor"]["step"] == 1
    assert same(state(afi_gan.train(config, resumed)), expected)
    assert resumed.read_log() == unbroken.read_log()


def test_a_run_is_resumed_only_with_its_own_settings(settings, run):
    config = settings()
    afi_gan.train(config, run(config), "teacher")
    with pytest.raises(ValueError, match=r"adversarial.weight: 0.001 stored, 0.01 given"):
        run(replace(config, adversarial=AdversarialConfig(weight=0.01)))


# ------------------------------------------------------------------------------------------------ two processes


def test_two_processes_teach_the_interpolator_what_one_does(tmp_path, monkeypatch):
    """L1 alone: the batch norms of the discriminator use each process's share of the batch, so its logits differ."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", port)
    done = run_script(WORKER, tmp_path, timeout=120)
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
    stages = {name: getattr(paper, name) for name in STAGES}
    assert {name: stage.steps for name, stage in stages.items()} == {
        "teacher": 270_000, "interpolator": 150_000, "extractor": 270_000, "target": 90_000,
    }  # fmt: skip
    rates = lambda stage, *steps: [stage.optimizer.lr_at(step, stage.steps) for step in steps]  # noqa: E731
    assert rates(stages["interpolator"], 1_000, 119_999, 120_000) == pytest.approx([1e-3, 1e-3, 1e-4])
    for name in ("teacher", "extractor"):
        assert rates(stages[name], 1_000, 209_999, 210_000, 250_000) == pytest.approx([0.02, 0.02, 0.002, 0.0002])
    assert all(stage.optimizer.warmup_steps == 1_000 for stage in stages.values())
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
    assert all(stage.optimizer.name == "sgd" and stage.optimizer.momentum == 0.9 for stage in stages.values())
    assert all(stage.optimizer.weight_decay == 1e-4 for stage in stages.values())


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
    ("changes", "message"),
    [
        ({"reuse": "all"}, "Unknown reuse 'all'; choose one of none, G, G_from_M, M"),
        ({"level_matching": "other"}, "Unknown level_matching 'other'; choose one of same, different"),
        ({"extractor_init": "random"}, "Unknown extractor_init 'random'; choose one of weights, teacher"),
        ({"target_init": ""}, "Unknown target_init ''; choose one of weights, teacher"),
        ({"extractor_detector": "retina"}, "Unknown detector 'retina'. Did you mean 'retinanet'"),
    ],
)
def test_settings_that_do_not_exist_are_refused_at_once(changes, message):
    with pytest.raises(ValueError, match=message):
        Settings(**changes)


def test_the_extractor_is_the_papers_F(make_networks):
    p = make_networks()
    assert isinstance(p.F, Extractor)
    assert not p.F.training
    assert not any(q.requires_grad for q in p.F.parameters())
