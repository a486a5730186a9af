"""Detection pipelines: a super-resolution network in front of a detector, evaluated on downscaled images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from featlift.checkpoints.damage import read_json
from featlift.checkpoints.tensors import read_metadata
from featlift.data.dataset import ImageDataset
from featlift.detectors.by_name import load_detector_by_name
from featlift.detectors.checkpoint import DETECTOR_FILE
from featlift.detectors.fixed_size import FixedSizeDetector, resize_to
from featlift.detectors.super_resolved import DegradeAndUpscale, SRDetector
from featlift.evaluation.detection import evaluate_detector
from featlift.evaluation.image_quality import image_quality
from featlift.image_sr.bicubic import BicubicSR
from featlift.image_sr.degradation import DegradationConfig, build_degradation
from featlift.runs.detector_evaluation import evaluate_voc

DOWNSCALE_FACTORS = (1, 2, 3, 4, 5, 6, 7, 8)


@dataclass(frozen=True)
class SRPipeline:
    """A detector and the super-resolution network in front of it (None: original images).

    ``label_ids`` maps the detector's labels to the category ids of the dataset; None if its labels are those of the dataset.
    ``image_size`` (height, width) is the size to which images are resized first (Table 3); None keeps theirs.
    """

    detector: nn.Module
    super_resolver: nn.Module | None
    label_ids: Mapping[int, int | None] | None = None
    image_size: tuple[int, int] | None = None

    def build_detector(self, downscale: int, degradation_config: DegradationConfig | None = None) -> nn.Module:
        """Return the detector on images that are downscaled by ``downscale`` and enlarged by the network."""
        transform = self.build_transform(downscale, degradation_config)
        detector = self.detector if transform is None else SRDetector(self.detector, transform)
        return detector if self.image_size is None else FixedSizeDetector(detector, self.image_size)

    def resize(self, image: Tensor) -> Tensor:
        """Return ``image [3, H, W]`` in ``image_size``."""
        return image if self.image_size is None else resize_to(image, self.image_size)

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
    folders = {
        name: Path(path) for name, path in super_resolver_paths.items() if (Path(path) / DETECTOR_FILE).is_file()
    }
    return {
        name: SRPipeline(load_joint_detector(folder).eval(), super_resolvers[name]) for name, folder in folders.items()
    }


def load_joint_detector(folder: Path) -> nn.Module:
    """Load the detector that was trained jointly with the network in the run ``folder``."""
    source = joint_detector_source(folder)
    weights = "none" if source == str(folder) else str(folder / DETECTOR_FILE)
    return load_detector_by_name(source, weights)


def joint_detector_source(folder: Path) -> str:
    """Return what describes the architecture and the classes of that detector: the run, or the torchvision detector it started from."""
    if read_metadata(folder / DETECTOR_FILE):
        return str(folder)
    return read_json(folder / "settings.json")["feature_extractor"]["network"]


def evaluate_pipelines(
    pipelines: Mapping[str, SRPipeline],
    dataset: ImageDataset,
    downscale: int = 4,
    degradation_config: DegradationConfig | None = None,
    num_quality_images: int | None = 50,
    device: str = "cpu",
) -> dict[str, dict[str, Any]]:
    """Return for each pipeline ``metrics`` (AP and AR by size, 0…1), ``seconds`` per image including the enlargement, and ``quality``.

    ``quality`` (PSNR of Y and RGB, SSIM, FSIM; border ``downscale``) is the mean over the first ``num_quality_images`` images, whose
    number is its ``num_images`` (None: all; 0: omitted, since FSIM takes a second per image). On PASCAL VOC there is also ``voc``, VOC's
    own AP (Table 3).
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
    detector = pipeline.build_detector(downscale, degradation_config)
    evaluation = evaluate_detector(detector, dataset, device=device, label_ids=pipeline.label_ids)
    seconds = sum(evaluation.seconds_per_image.values()) / max(1, len(evaluation.seconds_per_image))
    result: dict[str, Any] = {"metrics": evaluation.metrics["boxes"], "seconds": seconds}
    if getattr(dataset, "layout", "") == "voc":
        result["voc"] = evaluate_voc(dataset, evaluation.detections)
    transform = pipeline.build_transform(downscale, degradation_config)
    count = len(dataset) if num_quality_images is None else min(num_quality_images, len(dataset))
    if transform is not None and count:
        originals = (pipeline.resize(dataset[index][0].to(device)) for index in range(count))
        quality = image_quality(((transform(image[None])[0], image) for image in originals), border=downscale)
        result["quality"] = {**quality, "num_images": count}
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
            evaluation = evaluate_detector(detector, dataset, device=device, label_ids=pipeline.label_ids)
            values.append(evaluation.metrics["boxes"]["ap"])
        curves[name] = dict(
            zip(downscale_factors, values * len(downscale_factors) if is_constant else values, strict=True)
        )
    return curves
