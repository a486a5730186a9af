import torch
import torch.nn.functional as nnf
from torch import nn

from featlift.upgrading.tracing import is_2x_size, trace_interpolations


def test_a_trace_has_owners_sizes_modes_and_the_image_size(rtdetr_with_masks: nn.Module):
    trace = trace_interpolations(rtdetr_with_masks, example_inputs=torch.zeros(2, 3, 64, 96))
    calls = [(call.owner, call.channels, call.in_size, call.out_size, call.mode) for call in trace.calls]
    assert calls == [
        ("encoder", 8, (2, 3), (4, 6), "nearest"),
        ("encoder", 8, (4, 6), (8, 12), "nearest"),
        ("encoder", 2, (64, 96), (8, 12), "nearest"),
        ("masks", 1, (8, 12), (16, 24), "bilinear"),
    ]
    assert [call.is_2x for call in trace.calls] == [True, True, False, True]
    assert trace.image_size == (64, 96)
    assert len(trace.calls_within("encoder")) == 3


def test_a_module_that_runs_twice_counts_once():
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up = nn.Upsample(scale_factor=2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            """``[B, C, H, W]`` → ``[B, C, 4H, 4W]``."""
            return self.up(self.up(x))

    assert len(trace_interpolations(Pair()).calls_within("up")) == 1
    assert len(trace_interpolations(Pair()).calls_within("")) == 2


def test_tracing_changes_nothing(rtdetr: nn.Module):
    rtdetr.train()
    state = {name: x.clone() for name, x in rtdetr.state_dict().items()}
    trace_interpolations(rtdetr)
    assert all(torch.equal(x, rtdetr.state_dict()[name]) for name, x in state.items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in rtdetr.modules())
    assert all(module.training for module in rtdetr.modules())
    assert nnf.interpolate(torch.ones(1, 1, 1, 1), scale_factor=2.0).sum() == 4


def test_2x_up_to_one_cell():
    assert is_2x_size((4, 5), (8, 10))
    assert is_2x_size((4, 5), (7, 11))
    assert not is_2x_size((4, 5), (8, 12))
    assert not is_2x_size((4, 5), (4, 5))
    assert not is_2x_size((4, 5), (16, 20))
