import torch
import torch.nn.functional as nnf
from torch import nn

from featlift.upgrading.tracing import trace_interpolations


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
    assert [call.is_within("encoder") for call in trace.calls] == [True, True, True, False]
    assert [call.feeds_learned for call in trace.calls] == [True, True, False, False]
    assert [call.tag.is_learned for call in trace.calls] == [True, True, False, True]


def test_the_runs_of_a_module_are_counted():
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up = nn.Upsample(scale_factor=2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            """``[B, C, H, W]`` → ``[B, C, 4H, 4W]``."""
            return self.up(self.up(x))

    trace = trace_interpolations(Pair())
    assert [call.stack for call in trace.calls] == [(("", 0), ("up", 1)), (("", 0), ("up", 2))]
    assert (trace.run_counts["up"], trace.run_counts[""]) == (2, 1)


class Focus(nn.Module):
    """Space-to-depth before the first convolution, as in YOLOX."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(12, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[B, 3, H, W]`` → ``[B, 4, H/2 - 2, W/2 - 2]``."""
        return self.conv(nnf.pixel_unshuffle(x, 2))


def test_the_image_size_is_that_before_space_to_depth():
    assert trace_interpolations(Focus(), torch.zeros(1, 3, 64, 96)).image_size == (64, 96)
    assert trace_interpolations(nn.Conv2d(3, 4, 3), [torch.zeros(3, 64, 96)][0]).image_size == (64, 96)


def test_tracing_changes_nothing(rtdetr: nn.Module):
    rtdetr.train()
    state = {name: x.clone() for name, x in rtdetr.state_dict().items()}
    trace_interpolations(rtdetr)
    assert all(torch.equal(x, rtdetr.state_dict()[name]) for name, x in state.items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in rtdetr.modules())
    assert all(module.training for module in rtdetr.modules())
    assert nnf.interpolate(torch.ones(1, 1, 1, 1), scale_factor=2.0).sum() == 4
