"""Detection on super-resolved images: images are downscaled, enlarged by each of several networks and given to a detector (FDSR, Sec. 3).

All pipelines get the same low-resolution images, rounded to 8 bits. "original" is the upper bound on the original images.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from featlift.data.config import build_dataset, load_data_config
from featlift.data.dataset import ImageDataset
from featlift.data.fingerprint import dataset_fingerprint
from featlift.deployment.upscaling import load_super_resolver_by_name
from featlift.detectors.checkpoint import DETECTOR_FILE
from featlift.detectors.super_resolved import DegradeAndUpscale, SRDetector
from featlift.evaluation.detection import evaluate_detector
from featlift.evaluation.image_quality import image_quality
from featlift.image_sr.bicubic import BicubicSR
from featlift.image_sr.degradation import DegradationConfig, build_degradation
from featlift.papers.fdsr.loss import load_reference_detector
from featlift.papers.fdsr.settings import Settings
from featlift.report.image_grid import ImagePanel, make_image_grid
from featlift.runs.options import InferenceOptions
from featlift.training import Run
from featlift.training.run import to_jsonable, write_json

DOWNSCALE_FACTORS = (1, 2, 3, 4, 5, 6, 7, 8)


@dataclass(frozen=True)
class SRDetectionConfig:
    """Configuration of `evaluate_sr_detection`.

    Attributes:
        detector: Run folder or detector file of FeatLift, or the name of a torchvision detector.
        super_resolvers: Super-resolution networks, name → run folder or file (see
            `featlift.deployment.upscaling.load_super_resolver_by_name`); bicubic and the original are always included. A run that trained a
            detector jointly with the network (SR4IR) is evaluated with that detector.
        fine_tuned_detector: Run folder of a detector fine-tuned on bicubically enlarged low-resolution images; empty for none.
        data: COCO folder or "scenes"; empty uses the training data of the detector.
        split: Dataset split: "val" or "train".
        downscale: Integer downscaling factor per side.
        degradation: Degradations besides downscaling.
        downscale_sweep: Downscaling factors of the robustness curve; empty skips it.
        num_quality_images: Number of images on which PSNR, SSIM and FSIM are computed; 0 skips them.
        num_examples: Number of images drawn with the detections of all pipelines, evenly spaced over the dataset.
        device: Device: "cpu", "cuda", ….
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
    """Run `evaluate_pipelines` and, if configured, `compute_robustness`, and write the results into the folder ``out``.

    Writes ``sr_detection.json`` (settings, pipelines, curves, fingerprint of the images), ``robustness.png`` and ``image-<name>.png``.
    Returns the content of the JSON file.
    """
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    dataset = build_dataset(load_data_config(config.detector, config.data), config.split)
    networks = {
        name: load_super_resolver_by_name(path, config.downscale).to(config.device)
        for name, path in config.super_resolvers.items()
    }
    fine_tuned = load_reference_detector(config.fine_tuned_detector).eval() if config.fine_tuned_detector else None
    detector = load_reference_detector(config.detector).eval()
    pipelines = build_pipelines(detector, networks, fine_tuned) | build_joint_pipelines(
        config.super_resolvers, networks
    )
    results: dict[str, Any] = {"settings": to_jsonable(config), "data": dataset_fingerprint(dataset)}
    results["pipelines"] = evaluate_pipelines(
        pipelines, dataset, config.downscale, config.degradation, config.num_quality_images, config.device
    )
    if config.downscale_sweep:
        results["robustness"] = compute_robustness(
            pipelines, dataset, config.downscale_sweep, config.degradation, config.device
        )
        plot_robustness(results["robustness"], folder / "robustness.png")
    count = min(config.num_examples, len(dataset))
    for index in (k * len(dataset) // count for k in range(count)):
        grid = make_detection_grid(pipelines, dataset[index], config.downscale)
        grid.save(folder / f"image-{Path(dataset.image_name(index)).stem}.png")
    write_json(folder / "sr_detection.json", results)
    return results


def format_sr_detection(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Format the results of `evaluate_pipelines`, one line per pipeline: AP in percent by size, and PSNR and FSIM if present."""
    keys = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
    lines = [f"{'':14}" + "".join(f"{key:>11}" for key in (*keys, "psnr_y", "fsim"))]
    for name, row in results.items():
        values = [row["metrics"][key] for key in keys]
        cells = "".join(f"{'–':>11}" if value is None else f"{100 * value:11.1f}" for value in values)
        quality = row.get("quality")
        lines.append(f"{name:14}{cells}" + (f"{quality['psnr_y']:11.2f}{quality['fsim']:11.4f}" if quality else ""))
    return "\n".join(lines)


@dataclass(frozen=True)
class SRPipeline:
    """A detector and the super-resolution network in front of it (None: original images)."""

    detector: nn.Module
    super_resolver: nn.Module | None

    def build_detector(self, downscale: int, degradation_config: DegradationConfig | None = None) -> nn.Module:
        """Return the detector on images that are downscaled by ``downscale`` and enlarged by the network."""
        transform = self.build_transform(downscale, degradation_config)
        return self.detector if transform is None else SRDetector(self.detector, transform)

    def build_transform(
        self, downscale: int, degradation_config: DegradationConfig | None = None
    ) -> DegradeAndUpscale | None:
        """Return the transform of images ``[B, 3, H, W]`` in front of the detector; None for original images."""
        if self.super_resolver is None:
            return None
        degradation = build_degradation(downscale, degradation_config)
        return DegradeAndUpscale(self.super_resolver, downscale, degradation).eval()


def build_pipelines(
    detector: nn.Module, super_resolvers: Mapping[str, nn.Module], fine_tuned_detector: nn.Module | None = None
) -> dict[str, SRPipeline]:
    """Return the pipelines of the paper's Table 1, and "fine-tuned".

    "bicubic", each of ``super_resolvers``, "fine-tuned" (``fine_tuned_detector``, trained and evaluated on images that were downscaled
    and bicubically enlarged), "original".
    """
    bicubic = BicubicSR(next((network.scale for network in super_resolvers.values()), 4))  # type: ignore[arg-type]
    pipelines = {"bicubic": SRPipeline(detector, bicubic)}
    pipelines |= {name: SRPipeline(detector, network) for name, network in super_resolvers.items()}
    if fine_tuned_detector is not None:
        pipelines["fine-tuned"] = SRPipeline(fine_tuned_detector, bicubic)
    return pipelines | {"original": SRPipeline(detector, None)}


def build_joint_pipelines(
    super_resolver_paths: Mapping[str, str], super_resolvers: Mapping[str, nn.Module]
) -> dict[str, SRPipeline]:
    """Return the pipelines of the runs in ``super_resolver_paths`` that trained a detector jointly with the network."""
    detector_files = {name: Path(path) / DETECTOR_FILE for name, path in super_resolver_paths.items()}
    return {
        name: SRPipeline(load_reference_detector(str(path)).eval(), super_resolvers[name])
        for name, path in detector_files.items()
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
    """Return for each pipeline ``metrics`` (AP and AR by size, 0…1), ``seconds`` per image including the enlargement, and ``quality``.

    ``quality`` (PSNR of Y and RGB, SSIM, FSIM; border ``downscale``) is the mean over the first ``num_quality_images`` images
    (None: all; 0: omitted, since FSIM takes a second per image).
    """
    return {
        name: _evaluate_pipeline(pipeline, dataset, downscale, degradation_config, num_quality_images, device)
        for name, pipeline in pipelines.items()
    }


def _evaluate_pipeline(
    pipeline: SRPipeline,
    dataset: ImageDataset,
    downscale: int,
    degradation_config: DegradationConfig | None,
    num_quality_images: int | None,
    device: str,
) -> dict[str, Any]:
    evaluation = evaluate_detector(pipeline.build_detector(downscale, degradation_config), dataset, device=device)
    seconds = sum(evaluation.seconds_per_image.values()) / max(1, len(evaluation.seconds_per_image))
    result: dict[str, Any] = {"metrics": evaluation.metrics["boxes"], "seconds": seconds}
    transform = pipeline.build_transform(downscale, degradation_config)
    count = len(dataset) if num_quality_images is None else min(num_quality_images, len(dataset))
    if transform is not None and count:
        originals = (dataset[index][0].to(device) for index in range(count))
        result["quality"] = image_quality(((transform(image[None])[0], image) for image in originals), border=downscale)
    return result


def compute_robustness(
    pipelines: Mapping[str, SRPipeline],
    dataset: ImageDataset,
    downscale_factors: Sequence[int] = DOWNSCALE_FACTORS,
    degradation_config: DegradationConfig | None = None,
    device: str = "cpu",
) -> dict[str, dict[int, float]]:
    """Return the AP (0…1) of each pipeline by downscaling factor: ``{name: {factor: AP}}``.

    The output of a network whose scale differs from the factor is resized to the original size. "original" is constant.
    """
    curves: dict[str, dict[int, float]] = {}
    for name, pipeline in pipelines.items():
        is_constant = pipeline.super_resolver is None
        values = []
        for factor in downscale_factors[:1] if is_constant else downscale_factors:
            detector = pipeline.build_detector(factor, degradation_config)
            values.append(evaluate_detector(detector, dataset, device=device).metrics["boxes"]["ap"])
        curves[name] = dict(
            zip(downscale_factors, values * len(downscale_factors) if is_constant else values, strict=True)
        )
    return curves


def plot_robustness(curves: Mapping[str, Mapping[int, float]], path: str | Path) -> None:
    """Plot AP in percent against the downscaling factor, one line per pipeline, into an image file."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.4), layout="constrained")
    axes = figure.add_subplot()
    for name, curve in curves.items():
        style = {"linestyle": "--", "color": "0.5"} if name == "original" else {"marker": "o"}
        axes.plot(list(curve), [100 * value for value in curve.values()], label=name, **style)  # type: ignore[arg-type]
    axes.set(
        xlabel="downscaling factor per side",
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
    """Draw the low-resolution image and the input and detections of each pipeline, in a crop of ``crop_size`` px with the most objects.

    ``sample`` is an item of a dataset: image ``[3, H, W]`` and target.
    """
    image, target = sample
    low = DegradeAndUpscale(BicubicSR(downscale), downscale).degrade(image[None])
    enlarged = nn.functional.interpolate(low, scale_factor=downscale, mode="nearest")
    panels = [ImagePanel(enlarged[0, :, : image.shape[-2], : image.shape[-1]], f"low (1/{downscale})")]
    for name, pipeline in pipelines.items():
        transform = pipeline.build_transform(downscale)
        x = image if transform is None else transform(image[None])[0]
        panels.append(ImagePanel(x, name, pipeline.detector.eval()([x])[0]))
    crop = _densest_crop(target["boxes"], image.shape[-2:], crop_size)
    return make_image_grid(panels, target, crop, score_threshold=score_threshold)


def _densest_crop(boxes: Tensor, size: Sequence[int], crop_size: int) -> tuple[int, int, int, int]:
    """Return the crop (top, left, height, width) around an object's center that contains the most centers."""
    height, width = (min(crop_size, length) for length in size)
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    if not len(centers):
        return (size[0] - height) // 2, (size[1] - width) // 2, height, width
    corners = (centers - centers.new_tensor([width, height]) / 2).clamp(min=0)
    corners = corners.minimum(centers.new_tensor([size[1] - width, size[0] - height])).long()
    inside = (centers >= corners[:, None]) & (centers < corners[:, None] + centers.new_tensor([width, height]))
    left, top = corners[int(inside.all(dim=-1).sum(dim=1).argmax())].tolist()
    return top, left, height, width


def evaluate_super_resolver(super_resolver: nn.Module, settings: Settings, run: Run, name: str) -> dict[str, Any]:
    """Evaluate a trained network by the AP of its training detector on upscaled images; return the content of ``result.json``."""
    config = SRDetectionConfig(
        settings.feature_extractor.network, super_resolvers={name: str(run.folder)}, device=str(run.device)
    )
    results = evaluate_sr_detection(config, run.folder)
    print(format_sr_detection(results["pipelines"]))
    return run.write_result({"name": name, "pipelines": results["pipelines"]})


def evaluate_super_resolver_run(
    run: str, data: str, split: str, out: str, inference: InferenceOptions
) -> dict[str, Any]:
    """Evaluate a finished FDSR run by the AP of its training detector on upscaled images; results are written to the folder ``out``."""
    detector = json.loads((Path(run) / "settings.json").read_text())["feature_extractor"]["network"]
    config = SRDetectionConfig(detector, {"fdsr": run}, "", data, split, device=inference.device)
    return evaluate_sr_run(config, Path(out or f"{run}/super_resolved"))


def evaluate_sr_run(config: SRDetectionConfig, folder: Path) -> dict[str, Any]:
    """Run :func:`evaluate_sr_detection`, print its table and the folder, and return the results."""
    results = evaluate_sr_detection(config, folder)
    print(format_sr_detection(results["pipelines"]))
    print(folder)
    return results
