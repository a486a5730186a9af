"""Which layers of a list of layers are the parts of the level."""

import torch
from torch import nn

from featlift.upgrading.extended_ultralytics import LayerGraph, UltralyticsFamily, find_graph, head_predictions


class Concat(nn.Module):
    def forward(self, maps):
        """Maps ``[B, C_i, H, W]`` → ``[B, ΣC_i, H, W]``."""
        return torch.cat(maps, 1)


class Detect(nn.Module):
    """A head like Ultralytics', with distances instead of distributions."""

    def __init__(self):
        super().__init__()
        self.stride, self.dfl, self.xyxy = torch.tensor([8.0, 16, 32]), nn.Identity(), False
        self.box, self.classes = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 2, 1)
        self.one2many = {"box_head": [self.box], "cls_head": [self.classes]}


def network():
    """Layers 0 … 4 of strides 2 … 32, a top-down path, a bottom-up step."""
    up = lambda: nn.Upsample(scale_factor=2)  # noqa: E731
    conv = lambda inputs, stride=1: nn.Conv2d(inputs, 4, 3, stride, 1)  # noqa: E731
    layers = [conv(3, 2), *(conv(4, 2) for _ in range(4)), up(), Concat(), conv(8), up(), Concat(), conv(8), conv(4, 2)]
    sources = [-1, -1, -1, -1, -1, -1, [-1, 3], -1, -1, [-1, 2], -1, -1]
    model = nn.Module()
    model.model = nn.Sequential(*layers, Detect())
    for layer, source in zip(model.model, [*sources, [10, 11, 4]], strict=True):
        layer.f = source
    return model


def test_the_parts_are_found_by_where_inputs_come_from():
    model = network()
    assert UltralyticsFamily().matches(model)
    assert find_graph(model) == LayerGraph(coarse=4, guides=(7, 11), early=(2, 3))
    model.model[-1].stride = torch.tensor([4.0, 8, 16])
    assert not UltralyticsFamily().matches(model)
    assert not UltralyticsFamily().matches(nn.Linear(2, 2))


@torch.no_grad()
def test_the_parts_together_are_the_network():
    model, family, image = network(), UltralyticsFamily(), torch.rand(1, 3, 64, 96)
    expected = image
    outputs = []
    for layer in model.model[:-1]:
        sources = [layer.f] if isinstance(layer.f, int) else layer.f
        inputs = [expected if source == -1 else outputs[source] for source in sources]
        expected = layer(inputs if len(inputs) > 1 else inputs[0])
        outputs.append(expected)
    early = family.early_maps(model, image)
    finest = family.finest_maps(model, early, family.coarse_map(model, early))[0]
    torch.testing.assert_close(finest, outputs[10])
    torch.testing.assert_close(family.run_features(model, image)[0], outputs[10])


def test_boxes_are_distances_from_the_centers_of_cells():
    head = Detect()
    nn.init.zeros_(head.box.weight)
    head.box.bias.data = torch.tensor([0.5, 1.0, 1.5, 2.0])
    boxes = head_predictions(head, torch.rand(1, 4, 2, 3)).boxes
    torch.testing.assert_close(
        boxes[0, 4], torch.tensor([(1.5 - 0.5) * 4, (1.5 - 1) * 4, (1.5 + 1.5) * 4, (1.5 + 2) * 4])
    )
