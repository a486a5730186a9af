"""What an upgrade did, as a table."""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from featlift.upgrading.finders import Site, Step
from featlift.upgrading.residual import Blend, Residual

HOW: dict[type[nn.Module], str] = {Residual: "+", Blend: "gated"}


@dataclass(frozen=True)
class Row:
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
        door: how the doublings were found.
        rows: one for each doubling.
        picture: (H, W) in px for which multiply-adds and strides hold; None if no picture was seen.
        untouched: interpolations that were seen and left as they are.
        closed: doors that were tried before, and what was looked at.
    """

    door: str
    rows: tuple[Row, ...]
    picture: tuple[int, int] | None
    untouched: tuple[str, ...]
    closed: tuple[str, ...]

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
        size = f" at {self.picture[0]}x{self.picture[1]}" if self.picture else ""
        head = ("site", "level", "stride", "channels", "old", "new", "parameters", f"GMAC{size}")
        body = [_cells(row) for row in self.rows]
        total = ("total", "", "", "", "", "", f"{self.parameters:,}", _number(self.gmac))
        lines = _aligned([head, *body, total])
        notes = [f"tried before: {line}" for line in self.closed] + [
            f"left as it is: {line}" for line in self.untouched
        ]
        return "\n".join([f"Upgraded by the door '{self.door}':", *lines, *notes])


def rows(site: Site, additions: Sequence[nn.Module | None], name: str, picture: tuple[int, int] | None) -> list[Row]:
    """The rows of a site; ``additions`` are those of its steps, and None is a step without a row."""
    made, known = [], set()
    for step, addition in zip(site.steps, additions, strict=True):
        if addition is not None:
            made.append(_row(site.path, step, addition, name, picture, shared=addition in known))
            known.add(addition)
    return made


def _row(path: str, step: Step, addition: nn.Module, name: str, picture: tuple[int, int] | None, shared: bool) -> Row:
    parameters = 0 if shared else sum(p.numel() for p in addition.parameters())
    stride = _stride(step, picture)
    level = f"p{int(math.log2(stride))}" if stride else "–"
    return Row(
        path,
        level,
        stride,
        step.channels,
        step.mode,
        f"{HOW[type(addition)]} {name}",
        parameters,
        _gmac(step, addition),
    )


def _stride(step: Step, picture: tuple[int, int] | None) -> int | None:
    """The power of two that takes the picture's height to the map's, if there is one."""
    if picture is None or step.call is None:
        return None
    stride = 2 ** round(math.log2(picture[0] / step.call.target[0]))
    return stride if step.call.target[0] in (picture[0] // stride, -(-picture[0] // stride)) else None


def _gmac(step: Step, addition: nn.Module) -> float | None:
    """Half of what PyTorch's counter says, on the size of the call; nothing is computed."""
    from torch.utils.flop_counter import FlopCounterMode

    if step.call is None:
        return None
    weightless = copy.deepcopy(addition).to("meta").eval()
    like = next(weightless.parameters())
    shape = (1, step.channels)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        weightless(like.new_zeros(*shape, *step.call.size), like.new_zeros(*shape, *step.call.target))
    return counter.get_total_flops() / 2e9


def _cells(row: Row) -> tuple[str, ...]:
    parameters = f"{row.parameters:,}" if row.parameters else "shared"
    stride = str(row.stride) if row.stride else "–"
    return row.site, row.level, stride, str(row.channels), row.old, row.new, parameters, _number(row.gmac)


def _number(gmac: float | None) -> str:
    return "–" if gmac is None else f"{gmac:.3f}"


def _aligned(table: Sequence[Sequence[str]]) -> list[str]:
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
