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

from featlift.data.dataset import ImageDataset
from featlift.data.fingerprint import dataset_fingerprint
from featlift.deployment.upscaling import load_super_resolver_by_name
from featlift.detectors.super_resolved import DegradeAndUpscale, SRDetector
from featlift.evaluation.detection import evaluate_detector
from featlift.evaluation.image_quality import image_quality
from featlift.image_sr.bicubic import BicubicSR
from featlift.image_sr.degradation import DegradationConfig, build_degradation
from featlift.papers import baseline, fdsr
from featlift.report.image_grid import ImagePanel, make_image_grid
from featlift.training.run import to_jsonable, write_json

DOWNSCALE_FACTORS = (1, 2, 3, 4, 5, 6, 7, 8)


@dataclass(frozen=True)
class SRDetectionConfig:
    """What `measure` does.

    Attributes:
        detector: a run folder or detector file of ours, or a detector of torchvision's by name.
        super_resolvers: networks that enlarge, name → run folder or file (see `featlift.deployment.upscaling.load_super_resolver_by_name`); bicubic and the original are always there.
            A run in which a detector learned with the network (SR4IR) brings that detector.
        fine_tuned_detector: a run folder of a detector that learned on from small pictures; empty for none.
        data: a COCO folder or "scenes"; empty takes what the detector was trained on.
        split: "val" or "train".
        downscale: how much smaller a side becomes.
        degradation: what else is lost.
        downscale_sweep: for the robustness curve; empty draws none.
        num_quality_images: pictures whose PSNR, SSIM and FSIM are taken; 0 for none.
        num_examples: pictures that are drawn side by side, evenly spaced among all.
        device: "cpu", "cuda", ….
    """

    detector: str
    super_resolvers: dict[str, str] = field(default_factory=dict)
    fine_tuned_detector: str = ""
    data: str = ""
    split: str = "val"
    downscale: int = 4
    degradation: DegradationConfig = field(default_factory=DegradationConfig)
    downscale_sweep: tuple[int, ...] = ()
    num_quality_images: int = 50
    num_examples: int = 4
    device: str = "cpu"


def evaluate_sr_detection(config: SRDetectionConfig, out: str | Path) -> dict[str, Any]:
    """`compare` and, where asked for, `robustness`, written into the folder ``out``.

    ``two_step.json`` (settings, rows, curves, fingerprint of the pictures), ``robustness.png``, ``picture-<name>.png``. Returns what the
    json holds.
    """
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    shown = baseline.build_dataset(baseline.load_data_config(config.detector, config.data), config.split)
    networks = {
        name: load_super_resolver_by_name(path, config.downscale).to(config.device)
        for name, path in config.super_resolvers.items()
    }
    fine_tuned = fdsr.load_reference_detector(config.fine_tuned_detector).eval() if config.fine_tuned_detector else None
    rows = build_pipelines(
        fdsr.load_reference_detector(config.detector).eval(), networks, fine_tuned
    ) | build_joint_pipelines(config.super_resolvers, networks)
    found: dict[str, Any] = {"settings": to_jsonable(config), "data": dataset_fingerprint(shown)}
    found["rows"] = evaluate_pipelines(
        rows, shown, config.downscale, config.degradation, config.num_quality_images, config.device
    )
    if config.downscale_sweep:
        found["robustness"] = compute_robustness(rows, shown, config.downscale_sweep, config.degradation, config.device)
        plot_robustness(found["robustness"], folder / "robustness.png")
    count = min(config.num_examples, len(shown))
    for index in (k * len(shown) // count for k in range(count)):
        make_detection_grid(rows, shown[index], config.downscale).save(
            folder / f"picture-{Path(shown.image_name(index)).stem}.png"
        )
    write_json(folder / "two_step.json", found)
    return found


def format_sr_detection(results: Mapping[str, Mapping[str, Any]]) -> str:
    """What `compare` found, a line for each method: AP in per cent by size, and PSNR and FSIM where they were taken."""
    keys = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
    lines = [f"{'':14}" + "".join(f"{key:>11}" for key in (*keys, "psnr_y", "fsim"))]
    for name, row in results.items():
        values = [row["metrics"][key] for key in keys]
        shares = "".join(f"{'–':>11}" if value is None else f"{100 * value:11.1f}" for value in values)
        quality = row.get("quality")
        lines.append(f"{name:14}{shares}" + (f"{quality['psnr_y']:11.2f}{quality['fsim']:11.4f}" if quality else ""))
    return "\n".join(lines)


@dataclass(frozen=True)
class SRPipeline:
    """A row of the table: a detector, and the network that enlarges pictures for it (None: it sees the originals)."""

    detector: nn.Module
    super_resolver: nn.Module | None

    def build_detector(self, downscale: int, degradation_config: DegradationConfig | None = None) -> nn.Module:
        """The detector, shown pictures as they are after shrinking by ``downscale`` and enlarging."""
        look = self.build_transform(downscale, degradation_config)
        return self.detector if look is None else SRDetector(self.detector, look)

    def build_transform(
        self, downscale: int, degradation_config: DegradationConfig | None = None
    ) -> DegradeAndUpscale | None:
        """What happens to a picture ``[B, 3, H, W]`` before the detector sees it."""
        return (
            None
            if self.super_resolver is None
            else DegradeAndUpscale(
                self.super_resolver, downscale, build_degradation(downscale, degradation_config)
            ).eval()
        )


def build_pipelines(
    detector: nn.Module, super_resolvers: Mapping[str, nn.Module], fine_tuned_detector: nn.Module | None = None
) -> dict[str, SRPipeline]:
    """The rows of the paper's Table 1, and the one it lacks.

    "bicubic", each of ``super_resolvers``, "fine-tuned" (``fine_tuned_detector``, a detector that was trained on pictures shrunk and enlarged
    bicubically, sees such pictures), "original".
    """
    bicubic = BicubicSR(next((network.scale for network in super_resolvers.values()), 4))  # type: ignore[arg-type]
    rows = {"bicubic": SRPipeline(detector, bicubic)}
    rows |= {name: SRPipeline(detector, network) for name, network in super_resolvers.items()}
    if fine_tuned_detector is not None:
        rows["fine-tuned"] = SRPipeline(fine_tuned_detector, bicubic)
    return rows | {"original": SRPipeline(detector, None)}


def build_joint_pipelines(
    super_resolver_paths: Mapping[str, str], super_resolvers: Mapping[str, nn.Module]
) -> dict[str, SRPipeline]:
    """The rows of those runs of ``super_resolver_paths`` in which a detector learned with the network: that detector, behind that network."""
    learned = {name: Path(path) / baseline.DETECTOR_FILE for name, path in super_resolver_paths.items()}
    return {
        name: SRPipeline(fdsr.load_reference_detector(str(path)).eval(), super_resolvers[name])
        for name, path in learned.items()
        if path.is_file()
    }


def evaluate_pipelines(
    pipelines: Mapping[str, SRPipeline],
    dataset: ImageDataset,
    downscale: int = 4,
    degradation_config: DegradationConfig | None = None,
    num_quality_images: int | None = 50,
    device: str = "cpu",
) -> dict[str, dict[str, Any]]:
    """For each method: ``metrics`` (AP and AR by size, 0…1), ``seconds`` per picture with enlarging, and ``quality``.

    ``quality`` (PSNR of Y and RGB, SSIM, FSIM; border ``downscale``) is the mean over the first ``num_quality_images`` pictures (None: all; 0: left
    out, for FSIM takes a second a picture).
    """
    return {
        name: _evaluate_pipeline(row, dataset, downscale, degradation_config, num_quality_images, device)
        for name, row in pipelines.items()
    }


def _evaluate_pipeline(
    pipeline: SRPipeline,
    dataset: ImageDataset,
    downscale: int,
    degradation_config: DegradationConfig | None,
    num_quality_images: int | None,
    device: str,
) -> dict[str, Any]:
    found = evaluate_detector(pipeline.build_detector(downscale, degradation_config), dataset, device=device)
    seconds = sum(found.seconds_per_image.values()) / max(1, len(found.seconds_per_image))
    result: dict[str, Any] = {"metrics": found.metrics["boxes"], "seconds": seconds}
    look = pipeline.build_transform(downscale, degradation_config)
    count = len(dataset) if num_quality_images is None else min(num_quality_images, len(dataset))
    if look is not None and count:
        originals = (dataset[index][0].to(device) for index in range(count))
        result["quality"] = image_quality(((look(image[None])[0], image) for image in originals), border=downscale)
    return result


def compute_robustness(
    pipelines: Mapping[str, SRPipeline],
    dataset: ImageDataset,
    downscale_factors: Sequence[int] = DOWNSCALE_FACTORS,
    degradation_config: DegradationConfig | None = None,
    device: str = "cpu",
) -> dict[str, dict[int, float]]:
    """AP (0…1) of each method against how much smaller the pictures were made: ``{name: {factor: AP}}``.

    A network whose scale is not the factor is used all the same, and its picture brought to size. "original" does not change.
    """
    curves: dict[str, dict[int, float]] = {}
    for name, row in pipelines.items():
        different = downscale_factors if row.super_resolver is not None else downscale_factors[:1]
        values = [
            evaluate_detector(row.build_detector(factor, degradation_config), dataset, device=device).metrics["boxes"][
                "ap"
            ]
            for factor in different
        ]
        curves[name] = dict(
            zip(
                downscale_factors,
                values if len(different) == len(downscale_factors) else values * len(downscale_factors),
                strict=True,
            )
        )
    return curves


def plot_robustness(curves: Mapping[str, Mapping[int, float]], path: str | Path) -> None:
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
def make_detection_grid(
    pipelines: Mapping[str, SRPipeline],
    sample: tuple[Tensor, Mapping[str, Tensor]],
    downscale: int = 4,
    crop_size: int = 96,
    score_threshold: float = 0.5,
) -> Image.Image:
    """What arrives, and what each method makes of it, with its detections: a window of ``crop_size`` px where most objects are.

    ``sample`` is an item of a dataset: image ``[3, H, W]`` and target.
    """
    image, target = sample
    arrives = DegradeAndUpscale(BicubicSR(downscale), downscale).degrade(image[None])
    big = nn.functional.interpolate(arrives, scale_factor=downscale, mode="nearest")[
        0, :, : image.shape[-2], : image.shape[-1]
    ]
    panels = [ImagePanel(big, f"low (1/{downscale})")]
    for name, row in pipelines.items():
        look = row.build_transform(downscale)
        seen = image if look is None else look(image[None])[0]
        panels.append(ImagePanel(seen, name, row.detector.eval()([seen])[0]))
    return make_image_grid(
        panels, target, _densest_crop(target["boxes"], image.shape[-2:], crop_size), score_threshold=score_threshold
    )


def _densest_crop(boxes: Tensor, size: Sequence[int], crop_size: int) -> tuple[int, int, int, int]:
    """The window (top, left, height, width) around an object's center that holds most centers."""
    height, width = (min(crop_size, length) for length in size)
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    if not len(centers):
        return (size[0] - height) // 2, (size[1] - width) // 2, height, width
    corners = (centers - centers.new_tensor([width, height]) / 2).clamp(min=0)
    corners = corners.minimum(centers.new_tensor([size[1] - width, size[0] - height])).long()
    inside = (centers >= corners[:, None]) & (centers < corners[:, None] + centers.new_tensor([width, height]))
    left, top = corners[int(inside.all(dim=-1).sum(dim=1).argmax())].tolist()
    return top, left, height, width
