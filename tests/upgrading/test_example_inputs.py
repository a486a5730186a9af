from collections import UserDict
from typing import Any

import pytest
import torch
from torch import Tensor

from featlift.upgrading.example_inputs import decode_example, encode_example


def same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(x, b[key]) for key, x in a.items())
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


@pytest.mark.parametrize(
    "example",
    [
        torch.rand(2, 3, 4),
        (torch.rand(1, 3, 5, 7).half(), None, True, 2, 0.5, "detect"),
        [torch.zeros(0), torch.tensor(3), torch.rand(3)[::2]],
        {"input_ids": torch.arange(70_000), "pixel_mask": torch.ones(1, 300, 300, dtype=torch.bool), 3: {"a": (1,)}},
        torch.rand(4).bfloat16(),
    ],
)
def test_small_and_integer_values_are_exact(example: Any):
    assert same(decode_example(encode_example(example)), example)


def test_an_image_is_stored_by_shape_and_mean():
    image = torch.rand(1, 3, 640, 640)
    text = encode_example({"images": [image]})
    assert len(text) < 200
    decoded = decode_example(text)["images"][0]
    assert decoded.shape == image.shape
    assert decoded.unique().item() == pytest.approx(image.mean().item(), abs=1e-6)


def test_a_processors_output_is_a_dictionary():
    assert same(decode_example(encode_example(UserDict(x=torch.ones(2)))), {"x": torch.ones(2)})


def test_masks_are_small():
    assert len(encode_example(torch.ones(1, 640, 640, dtype=torch.int64))) < 10_000


def test_nothing_and_unknown_objects_give_nothing():
    assert encode_example(None) == encode_example((torch.ones(1), object())) == ""
    assert decode_example("") is None
