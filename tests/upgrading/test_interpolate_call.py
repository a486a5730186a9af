import torch
import torch.nn.functional as nnf
from torch.overrides import TorchFunctionMode

from featlift.upgrading.interpolate_call import bind_interpolate, call_signature, is_2x_size, is_feature_map


def test_2x_up_to_one_cell():
    assert is_2x_size((4, 5), (8, 10))
    assert is_2x_size((4, 5), (7, 11))
    assert not is_2x_size((4, 5), (8, 12))
    assert not is_2x_size((4, 5), (4, 5))
    assert not is_2x_size((4, 5), (16, 20))


class Recorder(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.signatures: list[tuple] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is nnf.interpolate:
            self.signatures.append(tuple(call_signature(bind_interpolate(args, kwargs or {}))))
        return func(*args, **(kwargs or {}))


def test_signatures_do_not_depend_on_sizes_or_spelling():
    with Recorder() as recorder:
        for side in (4, 7):
            x = torch.zeros(1, 5, side, side)
            nnf.interpolate(x, None, 2.0, "bilinear", False)
            nnf.interpolate(input=x, scale_factor=2.0, mode="bilinear", align_corners=False)
            nnf.interpolate(x, (8, 8))
    scaled, sized = ("bilinear", False, True, 5), ("nearest", None, False, 5)
    assert recorder.signatures == [scaled, scaled, sized] * 2


def test_feature_maps_are_floating_point_and_have_four_dimensions():
    assert is_feature_map(torch.zeros(1, 2, 3, 4, dtype=torch.float16))
    assert not is_feature_map(torch.zeros(1, 2, 3, 4, dtype=torch.uint8))
    assert not is_feature_map(torch.zeros(1, 2, 3))
