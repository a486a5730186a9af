"""Tags of tensors, against what each operation is known to do."""

import torch
import torch.nn.functional as nnf
from torch import nn

from featlift.upgrading.dataflow import DataflowMode, iterate_tensors


def follow(parameters=(), inputs=()):
    return DataflowMode(parameters, inputs)


def test_learned_is_what_meets_a_parameter():
    x, weight = torch.rand(1, 4, 8, 8), torch.rand(4, 4, 1, 1)
    with torch.no_grad(), follow([weight], [x]) as flow:
        scaled = x * 2
        learned = nnf.conv2d(scaled, weight)
        embeddings = nnf.interpolate(weight, size=(3, 3))
        constant = torch.zeros(1, 4, 8, 8) + 1
    assert (flow.tag(scaled).is_input, flow.tag(scaled).is_learned) == (True, False)
    assert flow.tag(learned).is_learned
    assert (flow.tag(embeddings).is_parameter, flow.tag(embeddings).is_input) == (True, False)
    assert not flow.tag(constant).is_input


def test_views_and_writes_into_slices_are_followed():
    x, weight = torch.rand(1, 4, 8, 8), nn.Linear(8, 8)
    with torch.no_grad(), follow(weight.parameters(), [x]) as flow:
        target = torch.zeros(1, 4, 8, 8)
        target[:, :2] = weight(x[:, :2])
        later = target.flatten(2).transpose(1, 2)
    assert flow.tag(later).is_learned


def test_marks_reach_learned_operations_and_merges():
    x, weight = torch.rand(1, 4, 8, 8), torch.rand(4, 4, 1, 1)
    with torch.no_grad(), follow([weight], [x]) as flow:
        maps = [nnf.conv2d(x, weight) for _ in range(3)]
        for number, y in enumerate(maps):
            flow.mark(y, number)
        nnf.conv2d(maps[0].relu(), weight)
        torch.cat([maps[1], nnf.conv2d(x, weight)], 1)
        maps[2].softmax(1)
    assert flow.marks_before_learned == 0b001
    assert flow.marks_merged == 0b010


def test_pooled_maps_stay_pooled_until_they_meet_the_map():
    x, weight = torch.rand(1, 4, 12, 12), torch.rand(4, 4, 1, 1)
    with torch.no_grad(), follow([weight], [x]) as flow:
        pooled = nnf.conv2d(nnf.adaptive_avg_pool2d(x, 6), weight).relu()
        halved = nnf.avg_pool2d(x, 2)
        excited = halved * nnf.adaptive_avg_pool2d(x, 1)
        both = pooled + halved
    tags = [flow.tag(y).is_pooled for y in (pooled, halved, excited, both)]
    assert tags == [True, False, False, False]


def test_the_address_of_a_freed_tensor_does_not_count():
    x = torch.rand(1000)
    with torch.no_grad(), follow([], [x]) as flow:
        for _ in range(20):
            y = x * 2
            del y
            assert not flow.tag(torch.tensor([1.0] * 1000)).is_input


def test_tensors_in_objects_are_inputs():
    class Nested:
        def __init__(self) -> None:
            self.tensors, self.mask = torch.zeros(2), torch.ones(2)

    assert len(list(iterate_tensors(([torch.zeros(1)], {"a": Nested()}, 3)))) == 3
