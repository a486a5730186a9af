"""What an upgrade did, as a table."""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from featlift.upgrading.finders import SiteStep, UpgradeSite
from featlift.upgrading.residual import GatedAdapter, ResidualAdapter

ADAPTER_SYMBOLS: dict[type[nn.Module], str] = {ResidualAdapter: "+", GatedAdapter: "gated"}


@dataclass(frozen=True)
class UpgradeRow:
    """One doubling that was upgraded."""

    site: str
    """Dotted name of the module it happens in."""
    level: str
    """The map that comes out ("p3"); a dash where no run showed it."""
    stride: int | None
    """Of that map, px of the picture per cell."""
    channels: int
    old: str
    new: str
    parameters: int
    """New ones; 0 if they are shared with a row above."""
    gmac: float | None
    """10⁹ multiply-adds that were added, for one picture of the report's size."""


@dataclass(frozen=True)
class UpgradeReport:
    """Prints as a table.

    Attributes:
        finder: how the doublings were found.
        rows: one for each doubling.
        image_size: (H, W) in px for which multiply-adds and strides hold; None if no picture was seen.
        skipped: interpolations that were seen and left as they are.
        failed_finders: doors that were tried before, and what was looked at.
    """

    finder: str
    rows: tuple[UpgradeRow, ...]
    image_size: tuple[int, int] | None
    skipped: tuple[str, ...]
    failed_finders: tuple[str, ...]

    @property
    def parameters(self) -> int:
        """How many parameters were added."""
        return sum(row.parameters for row in self.rows)

    @property
    def gmac(self) -> float | None:
        """10⁹ multiply-adds that were added; None if a row's are not known."""
        known = [row.gmac for row in self.rows if row.gmac is not None]
        return sum(known) if len(known) == len(self.rows) else None

    def __str__(self) -> str:
        """The table, a line for each doubling, and what was left alone."""
        size = f" at {self.image_size[0]}x{self.image_size[1]}" if self.image_size else ""
        head = ("site", "level", "stride", "channels", "old", "new", "parameters", f"GMAC{size}")
        body = [_format_cells(row) for row in self.rows]
        total = ("total", "", "", "", "", "", f"{self.parameters:,}", _format_gmac(self.gmac))
        lines = _format_table([head, *body, total])
        notes = [f"tried before: {line}" for line in self.failed_finders] + [
            f"left as it is: {line}" for line in self.skipped
        ]
        return "\n".join([f"Upgraded by the door '{self.finder}':", *lines, *notes])


def site_rows(
    site: UpgradeSite, adapters: Sequence[nn.Module | None], name: str, image_size: tuple[int, int] | None
) -> list[UpgradeRow]:
    """The rows of a site; ``adapters`` are those of its steps, and None is a step without a row."""
    made, known = [], set()
    for step, addition in zip(site.steps, adapters, strict=True):
        if addition is not None:
            made.append(_build_row(site.path, step, addition, name, image_size, is_shared=addition in known))
            known.add(addition)
    return made


def _build_row(
    path: str, step: SiteStep, adapter: nn.Module, name: str, image_size: tuple[int, int] | None, is_shared: bool
) -> UpgradeRow:
    parameters = 0 if is_shared else sum(p.numel() for p in adapter.parameters())
    stride = _output_stride(step, image_size)
    level = f"p{int(math.log2(stride))}" if stride else "–"
    return UpgradeRow(
        path,
        level,
        stride,
        step.channels,
        step.mode,
        f"{ADAPTER_SYMBOLS[type(adapter)]} {name}",
        parameters,
        _gmac(step, adapter),
    )


def _output_stride(step: SiteStep, image_size: tuple[int, int] | None) -> int | None:
    """The power of two that takes the picture's height to the map's, if there is one."""
    if image_size is None or step.call is None:
        return None
    stride = 2 ** round(math.log2(image_size[0] / step.call.out_size[0]))
    return stride if step.call.out_size[0] in (image_size[0] // stride, -(-image_size[0] // stride)) else None


def _gmac(step: SiteStep, adapter: nn.Module) -> float | None:
    """Half of what PyTorch's counter says, on the size of the call; nothing is computed."""
    from torch.utils.flop_counter import FlopCounterMode

    if step.call is None:
        return None
    weightless = copy.deepcopy(adapter).to("meta").eval()
    like = next(weightless.parameters())
    shape = (1, step.channels)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        weightless(like.new_zeros(*shape, *step.call.in_size), like.new_zeros(*shape, *step.call.out_size))
    return counter.get_total_flops() / 2e9


def _format_cells(row: UpgradeRow) -> tuple[str, ...]:
    parameters = f"{row.parameters:,}" if row.parameters else "shared"
    stride = str(row.stride) if row.stride else "–"
    return row.site, row.level, stride, str(row.channels), row.old, row.new, parameters, _format_gmac(row.gmac)


def _format_gmac(gmac: float | None) -> str:
    return "–" if gmac is None else f"{gmac:.3f}"


def _format_table(table: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table; numbers to the right, with a rule under its head and above its last line."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    left = (0, 1, 4, 5)
    lines = [
        "  ".join(
            c.ljust(w) if i in left else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in table
    ]
    rule = "─" * (sum(widths) + 2 * len(widths) - 2)
    return [lines[0], rule, *lines[1:-1], rule, lines[-1]]
