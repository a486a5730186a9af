"""Row transforms on small examples; G and D against explicit versions of the published networks."""

import torch
import torch.nn.functional as nnf

from featlift.conversion import import_weights
from featlift.conversion.heads import move_background_first, prepend_background, reorder_retinanet_anchors
from featlift.detectors.rcnn import build_anchor_generator
from featlift.distillation.discriminator import PatchDiscriminator
from featlift.interpolators import AFI


def test_background_from_last_to_first():
    assert move_background_first(torch.tensor([1, 2, 3, 0])).tolist() == [0, 1, 2, 3]
    rows = torch.arange(6.0).reshape(3, 2)
    assert move_background_first(rows).tolist() == [[4, 5], [0, 1], [2, 3]]


def test_background_added():
    assert prepend_background(bias=-20.0)(torch.tensor([1.0, 2.0])).tolist() == [-20, 1, 2]
    assert prepend_background(bias=-20.0)(torch.ones(1, 2)).tolist() == [[0, 0], [1, 1]]
    assert prepend_background(rows=4)(torch.arange(1.0, 9.0)).tolist() == [0] * 4 + list(range(1, 9))


def test_anchors_of_retinanet_change_their_order():
    """Size s and ratio r are written sr: published channels count the ratio first, torchvision's the size."""
    published = torch.tensor([10 * size + ratio for size in (1, 2, 3) for ratio in (1, 2, 3)])
    assert reorder_retinanet_anchors(1, add_background=False)(published).tolist() == [
        11,
        21,
        31,
        12,
        22,
        32,
        13,
        23,
        33,
    ]
    two_classes = torch.stack([published, published + 100], dim=1).flatten().float()
    assert reorder_retinanet_anchors(2, add_background=True)(two_classes).tolist()[:6] == [-1e4, 11, 111, -1e4, 21, 121]


def test_order_of_the_anchor_generator():
    (cell,) = build_anchor_generator(["p3"], 4.0, scales_per_octave=3).cell_anchors
    size = cell[:, 2:] - cell[:, :2]
    assert (size[:, 1] / size[:, 0]).reshape(3, 3).mean(dim=1).diff().gt(0).all()
    assert size.prod(dim=1).reshape(3, 3).diff(dim=1).gt(0).all()


def test_generator_equals_the_published_one(official):
    """Against the published network written out as functions of its own keys."""
    state = official("generator")
    module = AFI(256)
    assert len(import_weights(module, state).loaded_keys) == 23
    w = {key.removeprefix("Generators.0."): value for key, value in state.items()}
    x = torch.randn(1, 256, 3, 4)
    y = first = nnf.leaky_relu(nnf.conv2d(x, w["0.0.weight"], w["0.0.bias"], padding=1), 0.2)
    for i in range(3):
        maps = [y]
        for j in range(1, 5):
            weight = w[f"1.RDBs.{i}.conv{j}.0.weight"]
            maps.append(nnf.leaky_relu(nnf.conv2d(torch.cat(maps, 1), weight, padding=1), 0.2))
        y = y + 0.2 * nnf.conv2d(torch.cat(maps, 1), w[f"1.RDBs.{i}.conv5.weight"], padding=1)
    y = first + 0.2 * y
    y = nnf.leaky_relu(nnf.conv2d(y, w["2.0.weight"], w["2.0.bias"], padding=1), 0.2)
    y = nnf.leaky_relu(nnf.conv_transpose2d(y, w["3.0.weight"], w["3.0.bias"], stride=2, padding=2), 0.2)
    y = nnf.conv2d(y, w["4.0.weight"], w["4.0.bias"], padding=1)
    torch.testing.assert_close(module(x), y + nnf.interpolate(x, scale_factor=2, mode="bilinear"))


def test_discriminator_equals_the_published_one(official):
    state = official("critic")
    module = PatchDiscriminator(256)
    import_weights(module, state)
    module.eval()
    y = x = torch.randn(1, 256, 4, 3)
    for i in range(3):
        name = f"Discriminators.0.{i}.0."
        norm = [state[f"{name}norm.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        y = nnf.conv2d(y, state[f"{name}weight"], state[f"{name}bias"], padding=1)
        y = nnf.leaky_relu(nnf.batch_norm(y, *norm), 0.2)
    y = nnf.conv2d(y, state["Discriminators.0.3.0.weight"], state["Discriminators.0.3.0.bias"], padding=1)
    torch.testing.assert_close(module(x), y)
