"""Pictures for a README or a paper's page: what detectors saw, and the maps in which they saw it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from featlift.features import Features
from featlift.report.annotated_crops import Outline, to_pixels, window
from featlift.report.curves import colour
from featlift.report.feature_maps import heats

Part = tuple[int, int, int, int]

VERDICTS = {"found": "#35d06a", "missed": "#ff5449", "false": "#ffb02e"}
"""Colours of EFPN's Fig. 8."""


def before_after(
    path: str | Path,
    image: Tensor,
    outlines: tuple[Sequence[Outline], Sequence[Outline]],
    names: tuple[str, str],
    focus: Sequence[Sequence[float]] = (),
) -> Path:
    """Write a PNG or SVG (by the ending of ``path``) and return its path.

    Two rows, one for each of ``names``: the whole ``image [3, H, W]`` with its ``outlines`` (see
    `examples.Scenes.outlines`), then the surroundings of each box xywh in ``focus`` (two to four look best), enlarged
    so that pixels are seen. Ground truth is dashed.
    """
    from matplotlib.figure import Figure

    path = Path(path)
    pixels, ratio = to_pixels(image), image.shape[2] / image.shape[1]
    figure = Figure(figsize=(2.6 * (ratio + len(focus)), 5.5), layout="constrained", facecolor="white")
    axes = figure.subplots(2, 1 + len(focus), squeeze=False, width_ratios=[ratio] + [1] * len(focus))
    parts = [window(box, (image.shape[1], image.shape[2])) for box in focus]
    for row, name in enumerate(names):
        _panel(axes[row, 0], pixels, (0, 0, image.shape[2], image.shape[1]), outlines[row], colour(row))
        axes[row, 0].set_title(name, loc="left", fontsize=12, fontweight="bold", color=colour(row))
        for column, part in enumerate(parts, 1):
            _panel(axes[row, column], pixels, part, outlines[row], colour(row))
    return written(figure, path)


def verdicts(path: str | Path, pictures: Sequence[tuple[Tensor, Mapping[str, Sequence[Outline]]]]) -> Path:
    """Write a PNG or SVG (by the ending of ``path``) and return its path: found, missed and false, in colours (EFPN, Fig. 8).

    A row for each of ``pictures`` ``[3, H, W]``, a column for each detector, by name, with its outlines (see `examples.verdicts`). Of
    a picture the part with all outlines is shown.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    names = list(pictures[0][1])
    figure = Figure(figsize=(3.6 * len(names), 3.7 * len(pictures) + 0.6), layout="constrained", facecolor="white")
    axes = figure.subplots(len(pictures), len(names), squeeze=False)
    for row, (image, seen) in zip(axes, pictures, strict=True):
        part = _around([one for outlines in seen.values() for one in outlines], (image.shape[1], image.shape[2]))
        for panel, name in zip(row, names, strict=True):
            _panel(panel, to_pixels(image), part, (), "")
            _judge(panel, seen[name])
    for panel, name in zip(axes[0], names, strict=True):
        panel.set_title(name, loc="left", fontsize=11, fontweight="bold")
    key = [Patch(edgecolor=tint, facecolor="none", linewidth=2, label=style) for style, tint in VERDICTS.items()]
    figure.legend(handles=key, loc="outside lower left", ncols=3, frameon=False)
    return written(figure, Path(path))


def maps(path: str | Path, image: Tensor, features: Mapping[str, Features]) -> Path:
    """Write a PNG or SVG (by the ending of ``path``) and return its path: the levels that all have, side by side (EFPN, Fig. 6).

    A row for each level, with ``image [3, H, W]`` first; colours are the mean of ``|x|`` over channels, on one scale in a row.
    """
    from matplotlib.figure import Figure

    shown = heats(features)
    ratio = image.shape[1] / image.shape[2]
    size = (3.0 * (1 + len(features)), (3.0 * ratio + 0.3) * len(shown))
    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    for row, (level, pixels) in zip(
        figure.subplots(len(shown), 1 + len(features), squeeze=False), shown.items(), strict=True
    ):
        columns = {"picture": to_pixels(image), **pixels}
        for panel, (name, one) in zip(row, columns.items(), strict=True):
            panel.imshow(one, interpolation="nearest")
            panel.set(xticks=[], yticks=[])
            panel.set_title(name if name == "picture" else f"{level}: {name}", loc="left", fontsize=11)
    return written(figure, Path(path))


def written(figure: Any, path: Path) -> Path:
    """The file ``path`` with a figure of matplotlib, whole or not at all; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.part")
    figure.savefig(unfinished, format=path.suffix[1:], dpi=150)
    return unfinished.replace(path)


def _around(outlines: Sequence[Outline], size: tuple[int, int]) -> Part:
    """The part of a picture of ``size`` (H, W) with all ``outlines`` and some margin; all of it if there are none."""
    if not outlines:
        return (0, 0, size[1], size[0])
    left, top = min(one.x for one in outlines), min(one.y for one in outlines)
    right, bottom = max(one.x + one.width for one in outlines), max(one.y + one.height for one in outlines)
    return window((left, top, right - left, bottom - top), size, context=1.2, smallest=96)


def _judge(panel: Any, outlines: Sequence[Outline]) -> None:
    from matplotlib.patches import Rectangle

    for one in outlines:
        look = {"edgecolor": VERDICTS[one.style], "linewidth": 1.6, "linestyle": "--" if one.style == "missed" else "-"}
        panel.add_patch(Rectangle((one.x, one.y), one.width, one.height, fill=False, **look))


def _panel(panel: Any, pixels: Any, part: Part, outlines: Sequence[Outline], tint: str) -> None:
    from matplotlib.patches import Rectangle

    left, top, wide, high = part
    panel.imshow(pixels, interpolation="nearest", extent=(0, pixels.shape[1], pixels.shape[0], 0))
    panel.set(xlim=(left, left + wide), ylim=(top + high, top), xticks=[], yticks=[])
    for one in outlines:
        truth = one.style == "truth"
        look = {"edgecolor": "white", "linestyle": (0, (4, 3))} if truth else {"edgecolor": tint, "linewidth": 2}
        panel.add_patch(Rectangle((one.x, one.y), one.width, one.height, fill=False, **look))
