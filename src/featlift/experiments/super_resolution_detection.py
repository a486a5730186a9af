"""Detection in two steps, measured: pictures are shrunk, enlarged by each of several networks, and shown to detectors (FDSR, Sec. 3).

Every method sees the same small pictures, rounded to 8 bits. "original" is the ceiling: nothing was shrunk.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from featlift.data.dataset import Pictures
from featlift.data.fingerprint import fingerprint
from featlift.deployment.upscaling import named
from featlift.detectors.super_resolved import Restored, Through
from featlift.evaluation.detection import evaluate
from featlift.evaluation.image_quality import image_quality
from featlift.image_sr.bicubic import Bicubic
from featlift.image_sr.degradation import Decay, degradation
from featlift.papers import baseline, fdsr
from featlift.report.image_grid import Panel, sheet
from featlift.training.run import plain, write_json

FACTORS = (1, 2, 3, 4, 5, 6, 7, 8)


@dataclass(frozen=True)
class Measuring:
    """What `measure` does.

    Attributes:
        detector: a run folder or detector file of ours, or a detector of torchvision's by name.
        through: networks that enlarge, name → run folder or file (see `featlift.deployment.upscaling.named`); bicubic and the original are always there.
            A run in which a detector learned with the network (SR4IR) brings that detector.
        fine_tuned: a run folder of a detector that learned on from small pictures; empty for none.
        data: a COCO folder or "scenes"; empty takes what the detector was trained on.
        split: "val" or "train".
        factor: how much smaller a side becomes.
        decay: what else is lost.
        factors: for the robustness curve; empty draws none.
        judged: pictures whose PSNR, SSIM and FSIM are taken; 0 for none.
        drawn: pictures that are drawn side by side, evenly spaced among all.
        device: "cpu", "cuda", ….
    """

    detector: str
    through: dict[str, str] = field(default_factory=dict)
    fine_tuned: str = ""
    data: str = ""
    split: str = "val"
    factor: int = 4
    decay: Decay = field(default_factory=Decay)
    factors: tuple[int, ...] = ()
    judged: int = 50
    drawn: int = 4
    device: str = "cpu"


def measure(how: Measuring, out: str | Path) -> dict[str, Any]:
    """`compare` and, where asked for, `robustness`, written into the folder ``out``.

    ``two_step.json`` (settings, rows, curves, fingerprint of the pictures), ``robustness.png``, ``picture-<name>.png``. Returns what the
    json holds.
    """
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    shown = baseline.pictures(baseline.data_of(how.detector, how.data), how.split)
    networks = {name: named(path, how.factor).to(how.device) for name, path in how.through.items()}
    fine_tuned = fdsr.detector_named(how.fine_tuned).eval() if how.fine_tuned else None
    rows = methods(fdsr.detector_named(how.detector).eval(), networks, fine_tuned) | together(how.through, networks)
    found: dict[str, Any] = {"settings": plain(how), "data": fingerprint(shown)}
    found["rows"] = compare(rows, shown, how.factor, how.decay, how.judged, how.device)
    if how.factors:
        found["robustness"] = robustness(rows, shown, how.factors, how.decay, how.device)
        plot(found["robustness"], folder / "robustness.png")
    count = min(how.drawn, len(shown))
    for index in (k * len(shown) // count for k in range(count)):
        side_by_side(rows, shown[index], how.factor).save(folder / f"picture-{Path(shown.name(index)).stem}.png")
    write_json(folder / "two_step.json", found)
    return found


def table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """What `compare` found, a line for each method: AP in per cent by size, and PSNR and FSIM where they were taken."""
    keys = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
    lines = [f"{'':14}" + "".join(f"{key:>11}" for key in (*keys, "psnr_y", "fsim"))]
    for name, row in rows.items():
        values = [row["metrics"][key] for key in keys]
        shares = "".join(f"{'–':>11}" if value is None else f"{100 * value:11.1f}" for value in values)
        quality = row.get("quality")
        lines.append(f"{name:14}{shares}" + (f"{quality['psnr_y']:11.2f}{quality['fsim']:11.4f}" if quality else ""))
    return "\n".join(lines)


@dataclass(frozen=True)
class Method:
    """A row of the table: a detector, and the network that enlarges pictures for it (None: it sees the originals)."""

    detector: nn.Module
    network: nn.Module | None

    def seeing(self, factor: int, decay: Decay | None = None) -> nn.Module:
        """The detector, shown pictures as they are after shrinking by ``factor`` and enlarging."""
        look = self.look(factor, decay)
        return self.detector if look is None else Through(self.detector, look)

    def look(self, factor: int, decay: Decay | None = None) -> Restored | None:
        """What happens to a picture ``[B, 3, H, W]`` before the detector sees it."""
        return None if self.network is None else Restored(self.network, factor, degradation(factor, decay)).eval()


def methods(
    detector: nn.Module, networks: Mapping[str, nn.Module], fine_tuned: nn.Module | None = None
) -> dict[str, Method]:
    """The rows of the paper's Table 1, and the one it lacks.

    "bicubic", each of ``networks``, "fine-tuned" (``fine_tuned``, a detector that was trained on pictures shrunk and enlarged
    bicubically, sees such pictures), "original".
    """
    bicubic = Bicubic(next((network.scale for network in networks.values()), 4))  # type: ignore[arg-type]
    rows = {"bicubic": Method(detector, bicubic)}
    rows |= {name: Method(detector, network) for name, network in networks.items()}
    if fine_tuned is not None:
        rows["fine-tuned"] = Method(fine_tuned, bicubic)
    return rows | {"original": Method(detector, None)}


def together(through: Mapping[str, str], networks: Mapping[str, nn.Module]) -> dict[str, Method]:
    """The rows of those runs of ``through`` in which a detector learned with the network: that detector, behind that network."""
    learned = {name: Path(path) / baseline.DETECTOR_FILE for name, path in through.items()}
    return {
        name: Method(fdsr.detector_named(str(path)).eval(), networks[name])
        for name, path in learned.items()
        if path.is_file()
    }


def compare(
    rows: Mapping[str, Method],
    shown: Pictures,
    factor: int = 4,
    decay: Decay | None = None,
    judged: int | None = 50,
    device: str = "cpu",
) -> dict[str, dict[str, Any]]:
    """For each method: ``metrics`` (AP and AR by size, 0…1), ``seconds`` per picture with enlarging, and ``quality``.

    ``quality`` (PSNR of Y and RGB, SSIM, FSIM; border ``factor``) is the mean over the first ``judged`` pictures (None: all; 0: left
    out, for FSIM takes a second a picture).
    """
    return {name: _row(row, shown, factor, decay, judged, device) for name, row in rows.items()}


def _row(
    row: Method, shown: Pictures, factor: int, decay: Decay | None, judged: int | None, device: str
) -> dict[str, Any]:
    found = evaluate(row.seeing(factor, decay), shown, device=device)
    seconds = sum(found.seconds.values()) / max(1, len(found.seconds))
    result: dict[str, Any] = {"metrics": found.metrics["boxes"], "seconds": seconds}
    look = row.look(factor, decay)
    count = len(shown) if judged is None else min(judged, len(shown))
    if look is not None and count:
        originals = (shown[index][0].to(device) for index in range(count))
        result["quality"] = image_quality(((look(image[None])[0], image) for image in originals), border=factor)
    return result


def robustness(
    rows: Mapping[str, Method],
    shown: Pictures,
    factors: Sequence[int] = FACTORS,
    decay: Decay | None = None,
    device: str = "cpu",
) -> dict[str, dict[int, float]]:
    """AP (0…1) of each method against how much smaller the pictures were made: ``{name: {factor: AP}}``.

    A network whose scale is not the factor is used all the same, and its picture brought to size. "original" does not change.
    """
    curves: dict[str, dict[int, float]] = {}
    for name, row in rows.items():
        different = factors if row.network is not None else factors[:1]
        values = [
            evaluate(row.seeing(factor, decay), shown, device=device).metrics["boxes"]["ap"] for factor in different
        ]
        curves[name] = dict(
            zip(factors, values if len(different) == len(factors) else values * len(factors), strict=True)
        )
    return curves


def plot(curves: Mapping[str, Mapping[int, float]], path: str | Path) -> None:
    """AP in per cent against the shrink factor, a line for each method, as a picture file."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.4), layout="constrained")
    axes = figure.add_subplot()
    for name, curve in curves.items():
        style = {"linestyle": "--", "color": "0.5"} if name == "original" else {"marker": "o"}
        axes.plot(list(curve), [100 * value for value in curve.values()], label=name, **style)  # type: ignore[arg-type]
    axes.set(
        xlabel="each side made smaller by",
        ylabel="AP (%)",
        ylim=(0, None),
        xticks=sorted({k for c in curves.values() for k in c}),
    )
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", frameon=False)
    figure.savefig(path, dpi=150)


@torch.no_grad()
def side_by_side(
    rows: Mapping[str, Method],
    picture: tuple[Tensor, Mapping[str, Tensor]],
    factor: int = 4,
    window: int = 96,
    score: float = 0.5,
) -> Image.Image:
    """What arrives, and what each method makes of it, with its detections: a window of ``window`` px where most objects are.

    ``picture`` is an item of a dataset: image ``[3, H, W]`` and target.
    """
    image, target = picture
    arrives = Restored(Bicubic(factor), factor).low(image[None])
    big = nn.functional.interpolate(arrives, scale_factor=factor, mode="nearest")[
        0, :, : image.shape[-2], : image.shape[-1]
    ]
    panels = [Panel(big, f"low (1/{factor})")]
    for name, row in rows.items():
        look = row.look(factor)
        seen = image if look is None else look(image[None])[0]
        panels.append(Panel(seen, name, row.detector.eval()([seen])[0]))
    return sheet(panels, target, _crowded(target["boxes"], image.shape[-2:], window), score=score)


def _crowded(boxes: Tensor, size: Sequence[int], side: int) -> tuple[int, int, int, int]:
    """The window (top, left, height, width) around an object's centre that holds most centres."""
    height, width = (min(side, length) for length in size)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    if not len(centres):
        return (size[0] - height) // 2, (size[1] - width) // 2, height, width
    corners = (centres - centres.new_tensor([width, height]) / 2).clamp(min=0)
    corners = corners.minimum(centres.new_tensor([size[1] - width, size[0] - height])).long()
    inside = (centres >= corners[:, None]) & (centres < corners[:, None] + centres.new_tensor([width, height]))
    left, top = corners[int(inside.all(dim=-1).sum(dim=1).argmax())].tolist()
    return top, left, height, width
