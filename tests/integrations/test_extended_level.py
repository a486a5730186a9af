"""The extended level p3x on other libraries' networks with random weights; a library that is not installed is skipped by name."""

import copy

import pytest
import torch
import torch.nn.functional as nnf
from torch import nn
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.resnet import BasicBlock, ResNet
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from featlift.features import spatial_size
from featlift.upgrading import (
    added_parameters,
    downgrade,
    enable_level,
    level_distillation_loss,
    load_delta,
    save_delta,
    upgrade,
)
from featlift.upgrading.extended_cost import level_cost
from featlift.upgrading.extended_detector import run_plain, student_maps
from featlift.upgrading.extended_families import find_family
from featlift.upgrading.extended_family import enlarge

SIZE = 128
IMAGE = torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


def smooth_noise(number, size, generator=None):
    """Images ``[number, 3, size, size]`` of spots of 8 px."""
    noise = torch.rand(number, 3, size // 8, size // 8, generator=generator)
    return nnf.interpolate(noise, size=size, mode="bilinear")


def torchvision_dense(kind):
    """On a ResNet-10, with 64 channels in pyramid and heads instead of 256."""
    maps = {"layer2": "0", "layer3": "1", "layer4": "2"}
    body = ResNet(BasicBlock, [1, 1, 1, 1])
    backbone = BackboneWithFPN(body, maps, [128, 256, 512], 64, extra_blocks=LastLevelP6P7(64, 64))
    options = {"score_thresh": 0.0, "detections_per_img": 1000, "topk_candidates": 400}
    model = kind(backbone, 3, min_size=SIZE, max_size=SIZE, **options)
    return model


def yolox():
    models = pytest.importorskip("yolox.models")
    options = {"in_channels": [256, 512, 1024], "depthwise": True}
    return models.YoloxModule(models.YoloPafpn(0.33, 0.25, **options), models.YoloxHead(3, 0.25, **options))


def ultralytics(name):
    return pytest.importorskip("ultralytics").YOLO(f"{name}.yaml").model


def rt_detr():
    transformers = pytest.importorskip("transformers")
    stages = {"embedding_size": 16, "hidden_sizes": [16, 16, 24, 32], "depths": [1, 1, 1, 1], "layer_type": "basic"}
    backbone = transformers.RTDetrResNetConfig(**stages, out_features=["stage2", "stage3", "stage4"])
    return transformers.RTDetrForObjectDetection(
        transformers.RTDetrConfig(backbone_config=backbone, encoder_in_channels=[16, 24, 32], **detr_options())
    )


def d_fine():
    transformers = pytest.importorskip("transformers")
    stages = {
        "stem_channels": [3, 8, 8], "stage_in_channels": [8, 16, 16, 24], "stage_mid_channels": [8, 8, 8, 8],
        "stage_out_channels": [16, 16, 24, 32], "stage_num_blocks": [1, 1, 1, 1], "stage_numb_of_layers": [1, 1, 1, 1],
        "hidden_sizes": [16, 16, 24, 32], "depths": [1, 1, 1, 1],
    }  # fmt: skip
    backbone = transformers.HGNetV2Config(**stages, out_features=["stage2", "stage3", "stage4"])
    return transformers.DFineForObjectDetection(
        transformers.DFineConfig(backbone_config=backbone, encoder_in_channels=[16, 24, 32], **detr_options())
    )


def detr_options():
    return {
        "encoder_hidden_dim": 32, "d_model": 32, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "num_queries": 20,
        "decoder_layers": 2, "decoder_in_channels": [32, 32, 32], "encoder_attention_heads": 2,
        "decoder_attention_heads": 2, "num_labels": 3, "num_denoising": 0,
        "freeze_backbone_batch_norms": False,  # frozen ones keep their initial statistics, and the maps of random weights vanish
    }  # fmt: skip


MODELS = {
    "yolox": yolox,
    "retinanet": lambda: torchvision_dense(RetinaNet),
    "fcos": lambda: torchvision_dense(FCOS),
    "yolov8n": lambda: ultralytics("yolov8n"),
    "yolo11n": lambda: ultralytics("yolo11n"),
    "yolo26n": lambda: ultralytics("yolo26n"),
    "rt-detr": rt_detr,
    "d-fine": d_fine,
}


def test_libreyolo_is_refused_with_what_is_missing():
    nn_module = pytest.importorskip("libreyolo.models.yolox.nn")
    with pytest.raises(ValueError, match=r"missing for LibreYOLO: its YOLOX returns maps that are not decoded"):
        upgrade(nn_module.LibreYOLOXModel(config="n", nb_classes=3).eval(), level="p3x")


@pytest.fixture(scope="module", params=MODELS)
def base(request):
    """A network with random weights and the batch norm statistics of smooth noise, so that its maps are about 1."""
    torch.manual_seed(0)
    network = MODELS[request.param]().eval()
    family = find_family(network)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
            module.train()
    with torch.no_grad():
        family.run_features(network, family.to_input(network, smooth_noise(8, SIZE)))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            variance = module.running_var
            variance.clamp_(
                min=variance.mean().item() / 10
            )  # channels that were zero on these images do not explode on others
    return network.eval()


@pytest.fixture
def model(base):
    return copy.deepcopy(base)


@torch.no_grad()
def detect(model):
    """Boxes ``[N, 4]`` xyxy (px of the input) and scores ``[N]`` of the image, before the library's own selection where it has one."""
    if isinstance(model, RetinaNet | FCOS):
        detections = model(list(IMAGE))[0]
        return detections["boxes"], detections["scores"]
    outputs = model(IMAGE)
    if hasattr(outputs, "pred_boxes"):
        boxes, scores = outputs.pred_boxes[0] * SIZE, outputs.logits[0].sigmoid().amax(-1)
        return torch.cat([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], -1), scores
    rows = (outputs[0] if isinstance(outputs, tuple) else outputs)[0]
    if rows.shape[-1] == 6:
        return rows[:, :4], rows[:, 4]
    rows = rows.T if "ultralytics" in type(model).__mro__[-3].__module__ or rows.shape[0] < rows.shape[1] else rows
    scores = rows[:, 4:].amax(-1) if rows.shape[1] == 84 else rows[:, 4] * rows[:, 5:].amax(-1)
    return torch.cat([rows[:, :2] - rows[:, 2:4] / 2, rows[:, :2] + rows[:, 2:4] / 2], -1), scores


class TrueCoarseMap(nn.Module):
    """In place of the upsampler: the coarsest map of the enlarged image."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, x, guides, size):
        """``[B, C, h, w]`` → ``[B, C, *size]``."""
        assert all(abs(a - b) <= 1 for guide in guides[1:] for a, b in zip(spatial_size(guide), size, strict=True))
        assert spatial_size(self.value) == size
        return self.value


@torch.no_grad()
def test_with_the_true_coarse_map_it_is_the_finest_map_of_the_enlarged_image(model):
    family = find_family(model)
    image = family.to_input(model, IMAGE)
    own = family.run_features(model, enlarge(image))
    own = list(own.values()) if isinstance(own, dict) else list(own)
    upgrade(model, level="p3x", width=8)
    model.added_level = TrueCoarseMap(family.coarse_map(model, family.early_maps(model, enlarge(image))))
    maps, _, _ = student_maps(model, run_plain(model, family, image))
    for x, expected in zip(maps, own, strict=False):
        torch.testing.assert_close(x, expected, rtol=1e-4, atol=1e-4)
    assert spatial_size(maps[0]) == (SIZE // 4, SIZE // 4)


def test_off_it_is_bit_identical_on_it_adds_only_small_boxes_and_it_can_be_removed(model, tmp_path):
    plain, kinds, names = detect(model), [type(m) for m in model.modules()], list(model.state_dict())
    upgrade(model, level="p3x", width=8, num_blocks=1)
    assert all(torch.equal(*pair) for pair in zip(detect(model), plain, strict=True))
    family = find_family(model)
    with torch.no_grad():
        level = family.predict(
            model, student_maps(model, run_plain(model, family, family.to_input(model, IMAGE)))[0], (SIZE, SIZE)
        )
    limit = level.sizes[level.sizes > 0].median().item()  # many boxes of random weights have no area
    enable_level(model, limit)
    boxes, scores = detect(model)
    is_new = ~(boxes[:, None] == plain[0]).all(-1).any(1) & (scores > 1e-6)
    sizes = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(-1).sqrt()
    assert is_new.any()
    assert sizes[is_new].max() < limit + 1e-2
    save_delta(model, tmp_path / "level.safetensors")
    other = copy.deepcopy(model)
    downgrade(model)
    assert [type(m) for m in model.modules()] == kinds
    assert list(model.state_dict()) == names
    assert all(torch.equal(*pair) for pair in zip(detect(model), plain, strict=True))
    load_delta(model, tmp_path / "level.safetensors")
    for again in (model, other):
        assert all(torch.equal(*pair) for pair in zip(detect(again), (boxes, scores), strict=True))


def test_a_few_steps_lower_the_loss_of_other_images(model):
    """Every step has new images, so that the level cannot learn them by heart."""
    torch.manual_seed(0)
    family, generator = find_family(model), torch.Generator().manual_seed(2)
    upgrade(model, level="p3x", width=16, num_blocks=1)

    def loss(number):
        images = family.to_input(model, smooth_noise(number, 64, generator))
        return lambda: sum(level_distillation_loss(model, images).values())

    held_out = loss(12)
    with torch.no_grad():
        first = held_out()
    optimizer = torch.optim.AdamW(added_parameters(model).values(), lr=3e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=30)
    for _ in range(30):
        optimizer.zero_grad()
        loss(2)().backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        assert held_out() < first


def test_the_cost_stands_next_to_that_of_the_enlarged_image(model):
    upgrade(model, level="p3x", width=8)
    cost = level_cost(model, (SIZE, SIZE))
    assert 0.2 < cost.gmac_share < 1.3
    assert cost.gmacs["2x image"] > 2.5 * cost.gmacs["image"]
