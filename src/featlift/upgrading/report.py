"""Report of an upgrade, printed as a table."""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from featlift.profiling import count_macs
from featlift.upgrading.adapters import GatedAdapter, ResidualAdapter
from featlift.upgrading.sites import SiteStep, UpgradeSite

ADAPTER_SYMBOLS: dict[type[nn.Module], str] = {ResidualAdapter: "+", GatedAdapter: "gated"}


@dataclass(frozen=True)
class UpgradeRow:
    """One upgraded upsampling step.

    Attributes:
        site: Dotted name of the upgraded module.
        level: Name of the output map ("p3"); a dash if it was not traced.
        stride: Stride of the output map in image pixels.
        channels: Channels of the map.
        old: Original interpolation.
        new: Added adapter.
        parameters: Added parameters; 0 if they are shared with a previous row.
        gmac: Added 10⁹ multiply-adds for one image of the report's size.
    """

    site: str
    level: str
    stride: int | None
    channels: int
    old: str
    new: str
    parameters: int
    gmac: float | None


@dataclass(frozen=True)
class UpgradeReport:
    """Result of an upgrade; prints as a table.

    Attributes:
        finder: Kinds of sites (:data:`~featlift.upgrading.finders.FINDERS`), separated by commas.
        rows: One row per upsampling step.
        image_size: (H, W) in pixels for which multiply-adds and strides hold; None if no image was traced.
        skipped: Descriptions of the other interpolations, with the reason why they are left as they are.
        neck: Dotted name of the nearest module that contains all sites; empty for the model itself.
    """

    finder: str
    rows: tuple[UpgradeRow, ...]
    image_size: tuple[int, int] | None
    skipped: tuple[str, ...]
    neck: str = ""

    @property
    def parameters(self) -> int:
        """Number of added parameters."""
        return sum(row.parameters for row in self.rows)

    @property
    def gmac(self) -> float | None:
        """Added 10⁹ multiply-adds; None if unknown for any row."""
        known = [row.gmac for row in self.rows if row.gmac is not None]
        return sum(known) if len(known) == len(self.rows) else None

    def __str__(self) -> str:
        """Format the table: one line per upsampling step, then the interpolations that are left."""
        size = f" at {self.image_size[0]}x{self.image_size[1]}" if self.image_size else ""
        header = ("site", "level", "stride", "channels", "old", "new", "parameters", f"GMAC{size}")
        body = [_format_cells(row) for row in self.rows]
        total = ("total", "", "", "", "", "", f"{self.parameters:,}", _format_gmac(self.gmac))
        lines = _format_table([header, *body, total])
        place = f" in '{self.neck}'" if self.neck else ""
        notes = [f"left as it is: {line}" for line in self.skipped]
        return "\n".join([f"Upgraded {len(self.rows)} upsampling steps{place} ({self.finder}):", *lines, *notes])


def site_rows(
    site: UpgradeSite, adapters: Sequence[nn.Module | None], name: str, image_size: tuple[int, int] | None
) -> list[UpgradeRow]:
    """Return the report rows of a site; ``adapters`` has one adapter per step, or None for a step without a row."""
    rows, counted = [], set()
    for step, adapter in zip(site.steps, adapters, strict=True):
        if adapter is not None:
            rows.append(_build_row(site.path, step, adapter, name, image_size, is_shared=adapter in counted))
            counted.add(adapter)
    return rows


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
    """Return the power of 2 that divides the image height into the map height, or None."""
    if image_size is None or step.call is None:
        return None
    stride = 2 ** round(math.log2(image_size[0] / step.call.out_size[0]))
    return stride if step.call.out_size[0] in (image_size[0] // stride, -(-image_size[0] // stride)) else None


def _gmac(step: SiteStep, adapter: nn.Module) -> float | None:
    """Return 10⁹ multiply-adds for the size of the call, counted on the meta device."""
    if step.call is None:
        return None
    meta_adapter = copy.deepcopy(adapter).to("meta").eval()
    like = next(meta_adapter.parameters())
    x, old = (like.new_zeros(1, step.channels, *size) for size in (step.call.in_size, step.call.out_size))
    return count_macs(lambda: meta_adapter(x, old, old)) / 1e9  # a guide has the size of the output


def _format_cells(row: UpgradeRow) -> tuple[str, ...]:
    parameters = f"{row.parameters:,}" if row.parameters else "shared"
    stride = str(row.stride) if row.stride else "–"
    return row.site, row.level, stride, str(row.channels), row.old, row.new, parameters, _format_gmac(row.gmac)


def _format_gmac(gmac: float | None) -> str:
    return "–" if gmac is None else f"{gmac:.3f}"


def _format_table(table: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table: right-aligned numbers, a rule below the header and above the last line."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    left_aligned = (0, 1, 4, 5)
    lines = [
        "  ".join(
            c.ljust(w) if i in left_aligned else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in table
    ]
    rule = "─" * (sum(widths) + 2 * len(widths) - 2)
    return [lines[0], rule, *lines[1:-1], rule, lines[-1]]
