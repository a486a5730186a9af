"""EFPN's detector: levels of the RPN, routing of RoIs, and identical results of a copied head on a copied level."""

import copy

import pytest
import torch
from torchvision.ops import MultiScaleRoIAlign, box_iou

from featlift import detectors
from featlift.backbones import Backbone
from featlift.detectors import detections_from_features
from featlift.detectors.efpn import DuplicateRouting, ExclusiveRouting, ExtendedExtractor, extend_detector
from featlift.detectors.sparse_level import SparseReader
from featlift.interpolators import build_interpolators
from featlift.pyramids.efpn import ExtendedLevel
from featlift.pyramids.texture_transfers import FTT

C = 8


def build_base(name="faster-rcnn", pyramid="fpn", backbone="resnet10t"):
    torch.manual_seed(0)
    levels = detectors.backbone_levels(name, pyramid)
    F = detectors.extractor(name, Backbone(backbone, levels), build_interpolators("nearest", C, 3), C, pyramid)
    options = {"anchor_scale": 4.0, "fc_dim": 16, "num_proposals": 30} if name.endswith("rcnn") else {}
    return detectors.detector(name, F, 3, **options)


def build_extended(name="faster-rcnn", **options):
    detector = build_base(name)
    return extend_detector(detector, ExtendedLevel(64, C, FTT(C, hidden_channels=8)), **options)


def make_batch():
    torch.manual_seed(1)
    boxes = torch.tensor([[4.0, 6, 20, 24], [10, 10, 90, 100]])
    masks = torch.zeros(2, 96, 128, dtype=torch.uint8)
    masks[0, 6:24, 4:20], masks[1, 10:96, 10:90] = 1, 1
    target = {"boxes": boxes, "labels": torch.tensor([1, 2]), "masks": masks}
    return [torch.rand(3, 96, 128), torch.rand(3, 64, 64)], [
        target,
        {k: v[:1, ..., :64, :64] if k == "masks" else v[:1] for k, v in target.items()},
    ]


@pytest.mark.parametrize("limit", [56.0, 112.0])
def test_routing_at_the_limit(limit):
    """55.9 / 56 and 111.9 / 112, square or not."""
    sides = [limit - 0.1, limit, limit + 0.1]
    boxes = torch.tensor([[3.0, 5, 3 + s, 5 + s] for s in sides] + [[0, 0, 2 * (limit - 0.1), (limit - 0.1) / 2]])
    old, new = ExclusiveRouting(limit)(boxes)
    assert new.tolist() == [True, False, False, True]
    assert torch.equal(old, ~new)
    old, again = DuplicateRouting(limit)(boxes)
    assert torch.equal(again, new)
    assert old.all()


def test_exclusive_at_56_is_torchvisions_mapping_with_one_level_more():
    torch.manual_seed(0)
    corners, sides = 300 * torch.rand(500, 2), 400 * torch.rand(500, 2) ** 2 + 1
    boxes = torch.cat((corners, corners + sides), dim=1)
    pool = MultiScaleRoIAlign(["p2x", "p2", "p3", "p4", "p5"], 7, 2)
    maps = {
        level: torch.zeros(1, 1, 1024 // s, 1024 // s)
        for level, s in zip(pool.featmap_names, (2, 4, 8, 16, 32), strict=True)
    }
    pool(maps, [boxes], [(1024, 1024)])
    assert torch.equal(ExclusiveRouting()(boxes)[1], pool.map_levels([boxes]) == 0)


def test_the_rpn_never_sees_the_extended_level():
    T, levels = build_extended().eval(), []
    T.rpn.rpn.register_forward_pre_hook(lambda _, inputs: levels.append(list(inputs[1])))
    T(make_batch()[0])
    assert levels == [["p2", "p3", "p4", "p5", "p6"]]


def test_the_extractor_adds_the_extension_inputs():
    detector = build_base().eval()
    both = ExtendedExtractor(detector.backbone, ExtendedLevel(64, C, FTT(C, hidden_channels=8))).eval()
    image = torch.rand(1, 3, 64, 96)
    before, after = detector.backbone(image), both(image)
    assert all(torch.equal(before[level], after[level]) for level in before)
    sizes = {name: tuple(x.shape[-2:]) for name, x in {**after, **both.extended_levels(after)}.items()}
    assert (sizes["inner3"], sizes["inner2"], sizes["c1"]) == ((8, 12), (16, 24), (32, 48))
    assert (sizes["p3x"], sizes["p2x"]) == ((16, 24), (32, 48))
    inner = detector.backbone.pyramid.layer_blocks[0](after["inner2"])
    torch.testing.assert_close(inner, after["p2"])

    def forward(self, inner3, inner2, c2x):
        return {"p3x": inner2, "p2x": torch.full_like(inner2, 7.0).repeat_interleave(2, 2).repeat_interleave(2, 3)}


@pytest.mark.parametrize("name", ["faster-rcnn", "mask-rcnn"])
def test_with_no_small_roi_nothing_changes(name):
    detector = build_base(name).eval()
    T = extend_detector(detector, ExtendedLevel(64, C, FTT(C, hidden_channels=8)), ExclusiveRouting(0.0)).eval()
    for before, after in zip(detector(make_batch()[0]), T(make_batch()[0]), strict=True):
        assert before.keys() == after.keys()
        assert all(torch.equal(before[key], after[key]) for key in before)
        assert len(before["boxes"])


@pytest.mark.parametrize(("routing", "share"), [(ExclusiveRouting(56.0), 1), (DuplicateRouting(56.0), 2)])
def test_each_roi_goes_to_its_head(routing, share):
    T, counts = build_extended(routing=routing).eval(), {}
    T.roi_heads.fine.register_forward_hook(lambda _, inputs, outputs: counts.update(new=len(inputs[0])))
    T.roi_heads.coarse.box_head.register_forward_hook(lambda _, inputs, outputs: counts.update(old=len(inputs[0])))
    images, _ = T.transform(make_batch()[0])
    proposals, _ = T.rpn(images, T.backbone(images.tensors))
    small = sum(int(routing(boxes)[1].sum()) for boxes in proposals)
    T(make_batch()[0])
    assert 0 < counts["new"] == small
    assert counts["new"] + counts["old"] == sum(map(len, proposals)) + (share - 1) * small


def test_two_heads_end_in_one_suppression():
    """The old head says class 1, the new one class 2, of all RoIs: both answers are there, each without overlaps above ½."""
    T = build_extended().eval()
    images, _ = T.transform(make_batch()[0])
    boxes = torch.cat(T.rpn(images, T.backbone(images.tensors))[0])
    limit = float((boxes[:, 2:] - boxes[:, :2]).prod(dim=1).sqrt().median())
    T.roi_heads.routing = ExclusiveRouting(limit)
    with torch.no_grad():
        for label, predictor in ((1, T.roi_heads.coarse.box_predictor), (2, T.roi_heads.fine[1])):
            predictor.cls_score.weight.zero_()
            predictor.bbox_pred.weight.zero_()
            predictor.bbox_pred.bias.zero_()
            predictor.cls_score.bias.copy_(4.0 * (torch.arange(4) == label))
    for detections in T(make_batch()[0]):
        sides = (detections["boxes"][:, 2:] - detections["boxes"][:, :2]).prod(dim=1).sqrt()
        assert set(detections["labels"].tolist()) == {1, 2}
        assert (sides[detections["labels"] == 2] < limit + 0.01).all()
        assert (sides[detections["labels"] == 1] > limit - 0.01).all()
        for label in (1, 2):
            boxes = detections["boxes"][detections["labels"] == label]
            assert (box_iou(boxes, boxes).fill_diagonal_(0) <= 0.5).all()


def test_detections_of_a_batch_are_those_of_each_image():
    T = build_extended(routing=DuplicateRouting(40.0)).eval()
    image = make_batch()[0][0]
    single, (first, second) = T([image])[0], T([image, image.flip(-1)])
    for key, value in single.items():
        torch.testing.assert_close(first[key], value)
    torch.testing.assert_close(second["boxes"], T([image.flip(-1)])[0]["boxes"], rtol=1e-3, atol=1e-2)


def test_detections_on_features_are_the_detectors():
    T = build_extended().eval()
    images, _ = T.transform(make_batch()[0])
    on = T.transform.postprocess(
        detections_from_features(T, images, T.backbone(images.tensors)), images.image_sizes, [(96, 128), (64, 64)]
    )
    for whole, part in zip(T(make_batch()[0]), on, strict=True):
        assert all(torch.equal(whole[key], part[key]) for key in whole)


@pytest.mark.parametrize("name", ["faster-rcnn", "mask-rcnn"])
def test_training_gives_the_new_heads_losses(name):
    T = build_extended(name).train()
    T.rpn.eval()
    images, targets = make_batch()
    losses = T(images, targets)
    assert set(losses) == {"loss_classifier", "loss_box_reg"}
    sum(losses.values()).backward()
    learning = {name for name, p in T.named_parameters() if p.grad is not None and p.grad.any()}
    assert {
        "roi_heads.fine.0.fc6.weight",
        "roi_heads.fine.1.bbox_pred.weight",
        "backbone.extension.smooth.weight",
    } <= learning
    assert not [name for name in learning if name.startswith(("rpn", "roi_heads.coarse"))]


def test_no_small_roi_is_no_loss_but_a_graph():
    T = build_extended(routing=ExclusiveRouting(0.0)).train()
    T.rpn.eval()
    losses = T(*make_batch())
    assert [loss.item() for loss in losses.values()] == [0, 0]
    sum(losses.values()).backward()
    assert T.roi_heads.fine[1].cls_score.weight.grad is not None


def test_as_many_rois_as_are_hard():
    T = build_extended(ohem_per_image=4).train()
    T.rpn.eval()
    heads = T.roi_heads
    images, targets = make_batch()
    batch, boxes = T.transform(images, targets)
    features = T.backbone(batch.tensors)
    proposals, _ = T.rpn(batch, features)
    few = heads.compute_losses(features, proposals, boxes)
    heads.ohem_per_image = 10_000
    all_rois = heads.compute_losses(features, proposals, boxes)
    assert few["loss_classifier"] > all_rois["loss_classifier"]


def test_tiles_give_the_same_detections():
    T = build_extended(routing=ExclusiveRouting(30.0)).eval()
    whole = T(make_batch()[0])
    T.roi_heads.roi_reader = SparseReader(T.backbone.extended_levels, tile_size=2)
    for before, after in zip(whole, T(make_batch()[0]), strict=True):
        torch.testing.assert_close(before["boxes"], after["boxes"], rtol=1e-4, atol=1e-3)


def test_a_copy_answers_for_itself():
    T = build_extended().eval()
    other = copy.deepcopy(T)
    assert other.roi_heads.roi_reader.extend.__self__ is other.backbone


@pytest.mark.parametrize("name", ["cascade-rcnn", "retinanet"])
def test_other_detectors_are_refused(name):
    with pytest.raises(TypeError, match="EFPN extends Faster and Mask R-CNN"):
        extend_detector(build_base(name), ExtendedLevel(64, C, FTT(C, hidden_channels=8)))


def test_other_pyramids_are_refused():
    with pytest.raises(TypeError, match="starts at p3"):
        extend_detector(build_base(pyramid="bifpn"), ExtendedLevel(64, C, FTT(C, hidden_channels=8)))


def test_other_stems_are_refused():
    with pytest.raises(TypeError, match="the ResNet family"):
        extend_detector(build_base(backbone="convnext_atto"), ExtendedLevel(40, C, FTT(C, hidden_channels=8)))


def test_pafpn_is_extended_too():
    T = extend_detector(build_base(pyramid="pafpn"), ExtendedLevel(64, C, FTT(C, hidden_channels=8))).eval()
    assert T(make_batch()[0])[0]["boxes"].shape[1] == 4


@pytest.mark.parametrize("score", [1e-6, 0.3, 0.999])
def test_the_prefilter_leaves_out_what_the_old_head_calls_background(score):
    """RoIs that the new head classifies, computed by running the old head on p2 … p5 by hand."""
    T, counts = build_extended(prefilter_score=score).eval(), {}
    with torch.no_grad():
        T.roi_heads.coarse.box_predictor.cls_score.weight.mul_(40)
    T.roi_heads.fine.register_forward_hook(lambda _, inputs, outputs: counts.update(new=len(inputs[0])))
    images, _ = T.transform(make_batch()[0])
    features = T.backbone(images.tensors)
    proposals, _ = T.rpn(images, features)
    old = T.roi_heads.coarse
    logits, _ = old.box_predictor(old.box_head(old.box_roi_pool(features, proposals, images.image_sizes)))
    is_foreground = logits.softmax(dim=1)[:, 1:].sum(dim=1) >= score
    small = ExclusiveRouting()(torch.cat(proposals))[1]
    T(make_batch()[0])
    assert counts["new"] == int((is_foreground & small).sum())


def test_a_prefilter_that_keeps_everything_changes_nothing():
    base, prefiltered = build_extended().eval(), build_extended(prefilter_score=1e-9).eval()
    for before, after in zip(base(make_batch()[0]), prefiltered(make_batch()[0]), strict=True):
        assert all(torch.equal(before[key], after[key]) for key in before)
        assert len(before["boxes"])
