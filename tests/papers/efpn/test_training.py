"""Tiny versions of EFPN's three phases: changed weights, compared maps, and loading of a finished run."""

from dataclasses import replace

import pytest
import torch
from PIL import Image
from torch import nn

from featlift.data.class_balance import ClassBalance
from featlift.data.config import build_dataset, quick_data_config
from featlift.detectors.checkpoint import load_detector
from featlift.detectors.config import build_detector
from featlift.detectors.efpn import DuplicateRouting, ExclusiveRouting
from featlift.detectors.efpn_config import ExtendedLevelConfig, build_efpn
from featlift.detectors.sparse_level import DenseReader, SparseReader
from featlift.losses import pyramid_l1
from featlift.papers import efpn
from featlift.papers.efpn import Settings, training
from featlift.papers.efpn.settings import DistillationConfig
from featlift.papers.efpn.training import (
    BASE_DETECTOR_FILE,
    build_distillation_loader,
    build_labeled_loader,
    distill_extension,
    foreground_masks,
    select_teacher_levels,
    train_small_roi_head,
)
from featlift.training import Learner, OptimizerConfig
from featlift.training.schedules import StageConfig


def state(module):
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def moved(before, module):
    """Names of the tensors of ``module`` that are not bit-equal to ``before``."""
    return {name for name, value in module.state_dict().items() if not torch.equal(value, before[name])}


@pytest.fixture
def tiny(model, data, stage):
    def make(detector="faster-rcnn", **changes):
        extended_level = ExtendedLevelConfig(transfer_options={"hidden_channels": 4}, small_roi_size=30.0)
        base = model("nearest", detector)
        config = Settings(
            base, data(min_size=(64,)), extended_level, DistillationConfig(), ClassBalance(), stage(), stage(), stage()
        )
        return replace(config, **changes)

    return make


class Chain:
    """M and T, the dataset, and each phase separately."""

    def __init__(self, settings, run):
        torch.manual_seed(0)
        self.settings, self.run = settings, run
        self.dataset = build_dataset(settings.data)
        self.M = build_detector(settings.model, len(self.dataset.classes))
        self.T = build_efpn(self.M, settings.extended_level)

    def distill(self):
        distill_extension(self.T, self.settings, self.dataset, self.run)

    def second_head(self):
        train_small_roi_head(self.T, self.settings, self.dataset, self.run)


@pytest.fixture
def chain(tiny, run):
    def make(**changes):
        settings = tiny(**changes)
        return Chain(settings, run(settings))

    return make


# ---------------------------------------------------------------------------------------------------- changed weights


@pytest.mark.parametrize("detector", ["faster-rcnn", "mask-rcnn"])
def test_phase_2_moves_all_of_the_extension_and_nothing_else(chain, detector):
    """Weights and batch-norm statistics of the backbone stay bit-equal, although its batch norms are not frozen by default."""
    c = chain(detector=detector)
    before = state(c.T)
    c.distill()
    extension = {f"backbone.extension.{name}" for name, _ in c.T.backbone.extension.named_parameters()}
    assert any("running_mean" in name for name in before)
    assert moved(before, c.T) == extension


def test_the_text_reads_and_reproduces_p3_and_p2(chain):
    """As printed: FTT reads P3 and P2, the target of p3x is the P3 of the 2x image."""
    c = chain(extended_level=ExtendedLevelConfig("nearest", inputs="outputs", small_roi_size=30.0))
    features = c.T.backbone.eval()(torch.rand(1, 3, 64, 64))
    assert torch.equal(features["inner3"], features["p3"])
    assert torch.equal(features["inner2"], features["p2"])
    assert select_teacher_levels(features)["p3x"] is features["inner3"]


@pytest.mark.parametrize("levels", [("p2x",), ("p3x",), ("p3x", "p2x")])
def test_only_the_given_levels_have_a_loss(chain, levels, monkeypatch):
    """Table IV, with and without the loss on FTT."""
    compared = []
    monkeypatch.setattr(
        training,
        "pyramid_l1",
        lambda student, teacher: compared.append((set(student), set(teacher))) or pyramid_l1(student, teacher),
    )
    start = ExtendedLevelConfig(transfer_options={"hidden_channels": 4}, small_roi_size=30.0, init="random")
    c = chain(distillation=DistillationConfig(levels=levels), extended_level=start)
    before = state(c.T)
    c.distill()
    assert set(map(str, compared)) == {str((set(levels), set(levels)))}
    assert {"backbone.extension.lateral.weight", "backbone.extension.transfer.tail.2.weight"} & moved(before, c.T)
    with pytest.raises(ValueError, match="p3x, p2x or both"):
        DistillationConfig(levels=("p2",))


@pytest.mark.parametrize("train_extension", [True, False])
def test_phase_3_moves_the_new_head_and_perhaps_the_extension(chain, train_extension):
    c = chain(train_extension=train_extension)
    before = state(c.T)
    c.second_head()
    changed = moved(before, c.T)
    allowed = ("roi_heads.fine.", "backbone.extension.") if train_extension else ("roi_heads.fine.",)
    assert all(name.startswith(allowed) for name in changed)
    assert {"roi_heads.fine.0.fc6.weight", "roi_heads.fine.1.cls_score.weight"} <= changed
    assert ("backbone.extension.smooth.weight" in changed) == train_extension


def test_the_new_head_starts_as_the_old_one(chain, stage):
    c = chain(head=stage(0))
    with torch.no_grad():
        for p in c.M.roi_heads.parameters():
            p.add_(1.0)
    c.second_head()
    old = [c.T.roi_heads.coarse.box_head, c.T.roi_heads.coarse.box_predictor]
    for new, other in zip(c.T.roi_heads.fine, old, strict=True):
        assert not moved(state(other), new)


@pytest.mark.parametrize(("start", "same"), [("detector", True), ("random", False)])
def test_the_extension_begins_as_the_pyramids_finest_step(chain, stage, start, same):
    c = chain(
        extended_level=ExtendedLevelConfig(transfer_options={"hidden_channels": 4}, small_roi_size=30.0, init=start),
        extension=stage(0),
    )
    c.distill()
    F = c.T.backbone
    assert torch.equal(F.extension.lateral.weight, F.pyramid.inner_blocks[0][0].weight) == same
    assert torch.equal(F.extension.smooth.weight, F.pyramid.layer_blocks[0][0].weight) == same


def test_a_trained_extension_nears_its_teacher(chain, stage):
    """60 steps on four images: the distillation loss must decrease."""
    c = chain(extension=StageConfig(60, OptimizerConfig("adamw", lr=3e-3, max_grad_norm=1.0)))
    c.distill()
    log = [record["global"] for record in c.run.read_log("extension")]
    assert sum(log[-5:]) < 0.8 * sum(log[:5])


# ---------------------------------------------------------------------------------------------------- compared maps


def test_levels_masks_and_sizes(chain, monkeypatch):
    c, recorded = chain(), {}
    original = Learner.step

    def record_losses(learner, losses):
        recorded["losses"] = dict(losses)
        return original(learner, losses)

    def record_maps(student, teacher):
        recorded.update(student=student, teacher=teacher)
        return pyramid_l1(student, teacher)

    monkeypatch.setattr(Learner, "step", record_losses)
    monkeypatch.setattr(training, "pyramid_l1", record_maps)
    c.distill()
    sizes = {level: x.shape for level, x in recorded["student"].items()}
    assert sizes == {level: x.shape for level, x in recorded["teacher"].items()}
    assert sizes["p3x"][-2:] == (128 // 8, 128 // 8)  # the teacher sees 128 px, its inner3 has stride 8
    assert sizes["p2x"][-2:] == (128 // 4, 128 // 4)
    assert list(recorded["losses"]) == ["global", "foreground"]
    assert not any(x.requires_grad for x in recorded["teacher"].values())


def test_positive_cells_are_those_of_the_teachers_image():
    maps = {"p3x": torch.zeros(1, 2, 32, 32), "p2x": torch.zeros(1, 2, 64, 64)}
    masks = foreground_masks(maps, [torch.tensor([[13.0, 22, 30, 41]])])
    assert {level: int(mask.sum()) for level, mask in masks.items()} == {"p3x": 12, "p2x": 30}


def test_the_teacher_is_the_detectors_own_pyramid(chain):
    c = chain()
    F = c.T.backbone.eval()
    image = torch.rand(1, 3, 64, 64)
    teacher_maps = select_teacher_levels(F(image))
    maps = F.pyramid(F.backbone(image))
    assert torch.equal(teacher_maps["p2x"], maps["p2"])
    torch.testing.assert_close(F.pyramid.layer_blocks[1](teacher_maps["p3x"]), maps["p3"])


@pytest.mark.parametrize("term", ["global", "foreground"])
def test_each_term_alone_teaches_every_part(chain, monkeypatch, term):
    c, gradients = chain(), {}

    def alone(learner, losses):
        losses[term].backward()
        gradients.update({name: p.grad for name, p in learner.module.named_parameters()})
        return {name: loss.detach() for name, loss in losses.items()}

    monkeypatch.setattr(Learner, "step", alone)
    c.distill()
    assert gradients
    assert all(grad is not None and grad.any() for name, grad in gradients.items() if name.endswith("weight"))


@pytest.mark.parametrize("options", [{"tile_size": 3}, {"tile_size": 3, "crop_size": 64}])
def test_tiles_teach_what_the_whole_map_teaches(tiny, run, options):
    """The same steps from the same weights give the same extension up to rounding."""
    states = []
    for tile_size in (0, options["tile_size"]):
        settings = tiny(distillation=DistillationConfig(**{**options, "tile_size": tile_size}))
        c = Chain(settings, run(settings, f"tile-{tile_size}"))
        c.distill()
        states.append(state(c.T.backbone.extension))
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-3, atol=1e-5)


def test_rare_classes_are_cropped_at_the_teachers_scale(tiny):
    settings = tiny(class_balance=ClassBalance(min_per_class=50, crop_size=32))
    dataset = build_dataset(settings.data)
    for stream, side in (
        (build_labeled_loader(settings, dataset, 0), 32),
        (build_distillation_loader(settings, dataset, 0), 64),
    ):
        images, targets = next(stream.iter_from(0))
        assert {tuple(image.shape) for image in images} == {(3, side, side)}
        assert all(len(target["boxes"]) for target in targets)


def test_fast_decoding_needs_image_files(tiny):
    settings = tiny(data=replace(tiny().data, min_size=(32,), fast_decode=True))
    with pytest.raises(ValueError, match="SyntheticScenes are not files"):
        build_labeled_loader(settings, build_dataset(settings.data), 0)


def test_without_boxes_only_the_global_term_teaches(chain, tmp_path):
    folder = tmp_path / "photographs"
    folder.mkdir()
    for i in range(2):
        Image.effect_noise((80, 70), 60).convert("RGB").save(folder / f"{i}.png")
    c = chain(distillation=DistillationConfig(unlabeled_images=str(folder)))
    before = state(c.T.backbone.extension)
    c.distill()
    (log,) = c.run.read_log("extension")
    assert log["foreground"] == 0 < log["global"]
    assert moved(before, c.T.backbone.extension)


@pytest.mark.parametrize(("scale", "crop", "side"), [(2.0, 0, 128), (1.0, 0, 64), (3.0, 64, 64)])
def test_the_sizes_of_the_teachers_images(tiny, scale, crop, side):
    settings = tiny(distillation=DistillationConfig(image_scale=scale, crop_size=crop))
    images, _ = next(build_distillation_loader(settings, build_dataset(settings.data), 0).iter_from(0))
    assert {tuple(image.shape) for image in images} == {(3, side, side)}


# ---------------------------------------------------------------------------------------------------- the chain


@pytest.mark.parametrize("tile", [0, 2])
def test_the_chain(tiny, run, tile):
    settings = tiny(
        extended_level=ExtendedLevelConfig(
            "ftt", {"hidden_channels": 4}, small_roi_size=30.0, routing="duplicate", tile_size=tile
        )
    )
    folder = run(settings)
    T = efpn.train(settings, folder).eval()
    assert list(folder.stage_progress()) == ["detector", "extension", "head"]
    again, classes = load_detector(folder.folder)
    assert isinstance(again.roi_heads.roi_reader, SparseReader if tile else DenseReader)
    assert again.roi_heads.routing == DuplicateRouting(30.0)
    assert classes == build_dataset(settings.data).classes
    image = [torch.rand(3, 64, 64)]
    for key, value in T(image)[0].items():
        torch.testing.assert_close(again.eval()(image)[0][key], value)
    before = state(T)
    assert not moved(before, efpn.train(settings, run(settings)))


def test_phase_1_is_kept_for_comparison(tiny, run):
    settings = tiny()
    T = efpn.train(settings, run(settings))
    base, _ = load_detector(run(settings).folder / BASE_DETECTOR_FILE)
    assert all(
        torch.equal(value, T.state_dict()[name])
        for name, value in base.backbone.backbone.state_dict(prefix="backbone.backbone.").items()
    )


def test_phase_1_may_come_from_another_run(tiny, run):
    first = tiny()
    T = efpn.train(first, run(first, "first"))
    second = tiny(detector_from=str(run(first, "first").folder / BASE_DETECTOR_FILE))
    folder = run(second, "second")
    again = efpn.train(second, folder)
    assert "detector" not in folder.stage_progress()
    assert torch.equal(T.roi_heads.coarse.box_head.fc6.weight, again.roi_heads.coarse.box_head.fc6.weight)


def test_another_network_is_refused(tiny, run, model):
    first = tiny()
    efpn.train(first, run(first, "first"))
    wider = tiny(
        model=replace(model("nearest"), pyramid_channels=16),
        detector_from=str(run(first, "first").folder / BASE_DETECTOR_FILE),
    )
    with pytest.raises(ValueError, match="another network than 'model' describes"):
        efpn.train(wider, run(wider, "second"))


@pytest.mark.parametrize(
    "changes",
    [{"detector": "cascade-rcnn"}, {"detector": "retinanet", "detector_options": {}}, {"backbone": "convnext_atto"}],
)
def test_what_cannot_be_extended_is_refused_before_anything_is_trained(tiny, run, changes):
    settings = tiny()
    settings = replace(settings, model=replace(settings.model, **changes))
    folder = run(settings)
    with pytest.raises(TypeError, match=r"Faster and Mask R-CNN|ResNet family"):
        efpn.train(settings, folder)
    assert not folder.stage_progress()


# ---------------------------------------------------------------------------------------------------- settings


def test_defaults_are_the_papers():
    paper = Settings()
    assert (paper.data.min_size, paper.data.max_size, paper.model.detector_options["test_size"]) == (
        (1400,),
        4000,
        [1400, 4000],
    )
    assert (paper.extended_level.small_roi_size, paper.extended_level.routing, paper.extended_level.upsampler) == (
        56.0,
        "exclusive",
        "nearest",
    )
    assert (paper.distillation.foreground_weight, paper.distillation.image_scale) == (1.0, 2.0)
    assert (paper.class_balance.min_per_class, Settings.quick().class_balance.min_per_class) == (1000, 0)
    M = build_detector(replace(paper.model, backbone="resnet10t", backbone_weights="random"), 175)
    heads = nn.ModuleList([M.roi_heads.box_head, M.roi_heads.box_predictor])
    assert [size for (size,) in M.rpn.anchor_generator.sizes] == [16, 32, 64, 128, 256]
    assert sum(p.numel() for p in heads.parameters()) == 14_797_680


def test_official_is_the_release():
    code = Settings.official()
    assert (code.extended_level.transfer, code.extended_level.routing, code.extended_level.init) == (
        "ftt-512",
        "duplicate",
        "random",
    )
    light = replace(code.model, backbone_weights="random", detector_options={"fc_dim": 8})
    T = build_efpn(build_detector(light, 45), code.extended_level)
    assert sum(p.numel() for p in T.backbone.extension.parameters()) == 32_512_768
    assert T.roi_heads.routing == DuplicateRouting(56.0)


def test_quick_can_be_built():
    quick = Settings.quick()
    T = build_efpn(build_detector(quick.model, 6), quick.extended_level)
    assert T.roi_heads.routing == ExclusiveRouting(32.0)


def test_wrong_settings_are_refused_at_once():
    with pytest.raises(ValueError, match=r"data\.min_size is empty"):
        Settings(data=quick_data_config())


def test_the_papers_two_experiments():
    """Sec. IV-A, sentence by sentence."""
    paper, coco = Settings.paper(), Settings.coco()
    assert (paper.data.min_size, paper.extended_level.small_roi_size) == ((1400,), 56.0)
    assert (max(coco.data.min_size), coco.extended_level.small_roi_size) == (800, 112.0)
    assert coco.model.detector_options == {"test_size": [800, 1333]}
    assert (paper.class_balance.min_per_class, coco.class_balance.min_per_class) == (1000, 0)
    (jitter,) = coco.class_balance.augmentations()
    assert jitter.strengths == (0.2, 0.2, 0.2)
    assert ClassBalance().augmentations() == []
    for settings in (paper, coco):
        assert not settings.train_extension
        assert settings.distillation.foreground_weight == 1
        extension = build_efpn(
            build_detector(replace(settings.model, backbone_weights="random"), 45), settings.extended_level
        ).backbone.extension
        assert [len(extension.transfer.content), len(extension.transfer.texture.body)] == [2, 2]
        assert sum(p.numel() for p in extension.parameters()) == 8_260_864


def test_other_data_than_tt100k_are_named(data):
    with pytest.warns(UserWarning, match="--preset coco"):
        training.describe_efpn_training(replace(Settings(), data=data(min_size=(1400,))))
