"""One picture for a README: what a detector saw before and after."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from featlift.report.curves import colour
from featlift.report.views import Outline, to_pixels, window

Part = tuple[int, int, int, int]


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
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.part")
    figure.savefig(unfinished, format=path.suffix[1:], dpi=150)
    return unfinished.replace(path)


def _panel(panel: Any, pixels: Any, part: Part, outlines: Sequence[Outline], tint: str) -> None:
    from matplotlib.patches import Rectangle

    left, top, wide, high = part
    panel.imshow(pixels, interpolation="nearest", extent=(0, pixels.shape[1], pixels.shape[0], 0))
    panel.set(xlim=(left, left + wide), ylim=(top + high, top), xticks=[], yticks=[])
    for one in outlines:
        truth = one.style == "truth"
        look = {"edgecolor": "white", "linestyle": (0, (4, 3))} if truth else {"edgecolor": tint, "linewidth": 2}
        panel.add_patch(Rectangle((one.x, one.y), one.width, one.height, fill=False, **look))
