"""Detection on super-resolved images: images are downscaled, enlarged by each of several networks and given to a detector (FDSR, Sec. 3).

All pipelines get the same low-resolution images, rounded to 8 bits. "original" is the upper bound on the original images.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from featlift.checkpoints.damage import read_json
from featlift.checkpoints.json_io import to_jsonable, write_json
from featlift.data.config import build_dataset, load_data_config
from featlift.data.dataset import ImageDataset
from featlift.data.fingerprint import dataset_fingerprint
from featlift.deployment.upscaling import load_super_resolver_by_name
from featlift.detectors.by_name import is_detector_name, load_class_names, load_detector_by_name
from featlift.detectors.checkpoint import is_detector_path
from featlift.detectors.fixed_size import parse_image_size
from featlift.evaluation.class_mapping import LabelIds, match_classes, match_known_classes
from featlift.image_sr.degradation import DegradationConfig
from featlift.papers.fdsr.figures import make_detection_grid, plot_robustness
from featlift.papers.fdsr.pipelines import (
    SRPipeline,
    build_joint_pipelines,
    build_pipelines,
    compute_robustness,
    evaluate_pipelines,
    joint_detector_source,
)
from featlift.papers.fdsr.settings import CropDataConfig, EvaluationConfig, FeatureExtractorConfig, Settings
from featlift.runs.options import InferenceOptions
from featlift.training import Run, distributed


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
        num_quality_images: Number of first images on which PSNR, SSIM and FSIM are computed; None for all, 0 for none.
        num_examples: Number of images drawn with the detections of all pipelines, evenly spaced over the dataset.
        device: Device: "cpu", "cuda", ….
        class_map: Detector's class → dataset's class, for names that differ.
        image_size: Size to which images are resized before they are downscaled, as "300x300" (Table 3); empty keeps their size.
    """

    detector: str
    super_resolvers: dict[str, str] = field(default_factory=dict)
    fine_tuned_detector: str = ""
    data: str = ""
    split: str = "val"
    downscale: int = 4
    degradation: DegradationConfig = field(default_factory=DegradationConfig)
    downscale_sweep: tuple[int, ...] = ()
    num_quality_images: int | None = 50
    num_examples: int = 4
    device: str = "cpu"
    class_map: dict[str, str] | None = None
    image_size: str = ""


def evaluate_sr_detection(config: SRDetectionConfig, out: str | Path) -> dict[str, Any]:
    """Run `evaluate_pipelines` and, if configured, `compute_robustness`, and write the results into the folder ``out``.

    Writes ``sr_detection.json`` (settings, pipelines, curves, fingerprint of the images), ``robustness.png`` and ``image-<name>.png``.
    Returns the content of the JSON file. Of several processes, each detects in its share of the images, and rank 0 writes.
    """
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    dataset = build_dataset(load_data_config(config.detector, config.data), config.split)
    networks = {
        name: load_super_resolver_by_name(path, config.downscale).to(config.device)
        for name, path in config.super_resolvers.items()
    }
    fine_tuned = (
        load_detector_by_name(config.fine_tuned_detector, "DEFAULT").eval() if config.fine_tuned_detector else None
    )
    detector = load_detector_by_name(config.detector, "DEFAULT").eval()
    pipelines = build_pipelines(detector, networks, fine_tuned) | build_joint_pipelines(
        config.super_resolvers, networks
    )
    pipelines = _match_labels(pipelines, config, dataset)
    results: dict[str, Any] = {"settings": to_jsonable(config), "data": dataset_fingerprint(dataset)}
    results["pipelines"] = evaluate_pipelines(
        pipelines, dataset, config.downscale, config.degradation, config.num_quality_images, config.device
    )
    if config.downscale_sweep:
        results["robustness"] = compute_robustness(
            pipelines, dataset, config.downscale_sweep, config.degradation, config.device
        )
        plot_robustness(results["robustness"], folder / "robustness.png")
    if distributed.get_rank() != 0:
        return results
    count = min(config.num_examples, len(dataset))
    for index in (k * len(dataset) // count for k in range(count)):
        grid = make_detection_grid(pipelines, dataset[index], config.downscale)
        grid.save(folder / f"image-{Path(dataset.image_name(index)).stem}.png")
    write_json(folder / "sr_detection.json", results)
    return results


def _match_labels(
    pipelines: Mapping[str, SRPipeline], config: SRDetectionConfig, dataset: ImageDataset
) -> dict[str, SRPipeline]:
    """Set the image size, and map the labels of each pipeline's detector to the dataset by class name, before the first image."""
    first = pipelines["original"].detector
    sources = {"fine-tuned": config.fine_tuned_detector}
    for name, path in config.super_resolvers.items():
        if pipelines[name].detector is not first:
            sources[name] = joint_detector_source(Path(path))
    matched, size = {}, parse_image_size(config.image_size) if config.image_size else None
    for name, pipeline in pipelines.items():
        source = sources.get(name, config.detector)
        matched[name] = replace(pipeline, label_ids=match_detector(source, dataset, config.class_map), image_size=size)
    return matched


def match_detector(source: str, dataset: ImageDataset, class_map: Mapping[str, str] | None) -> LabelIds:
    """Map the labels of the detector ``source``; those of torchvision may know more classes of COCO than the dataset has."""
    match = match_classes if is_detector_path(source) else match_known_classes
    return match(load_class_names(source), dataset, class_map)


def format_sr_detection(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Format the results of `evaluate_pipelines`, one line per pipeline: AP in percent by size, PSNR and FSIM, and VOC's mAP if present."""
    counts = {row["quality"]["num_images"] for row in results.values() if row.get("quality", {}).get("num_images")}
    keys = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
    lines = [f"{'':14}" + "".join(f"{key:>11}" for key in (*keys, "psnr_y", "fsim"))]
    for name, row in results.items():
        values = [row["metrics"][key] for key in keys]
        cells = "".join(f"{'–':>11}" if value is None else f"{100 * value:11.1f}" for value in values)
        quality = row.get("quality")
        lines.append(f"{name:14}{cells}" + (f"{quality['psnr_y']:11.2f}{quality['fsim']:11.4f}" if quality else ""))
    lines += [
        f"{name}: VOC2007 mAP {100 * (row['voc']['VOC2007']['mAP'] or 0):.2f}"
        for name, row in results.items()
        if "voc" in row
    ]
    lines += [f"PSNR and FSIM of the first {count} images" for count in counts]
    return "\n".join(lines)


def plan_evaluation(settings: Settings, data: str = "") -> SRDetectionConfig | None:
    """Return the evaluation after the training, without its networks; None if ``evaluation.detector`` is "none".

    Args:
        settings: Settings of the training.
        data: Dataset that replaces the one of ``settings.evaluation``.

    Raises:
        ValueError: If the network that should evaluate is no detector.
    """
    detector = settings.evaluation.detector or settings.feature_extractor.network
    if detector == "none":
        return None
    if not is_detector_name(detector):
        raise ValueError(
            f"'{detector}' is no detector and cannot evaluate the trained network. Give a run folder or a torchvision detector "
            "with --evaluation.detector, or none."
        )
    own_data = Path(detector).exists() and (Path(detector) / "settings.json").is_file()
    data = data or settings.evaluation.data or ("" if own_data else settings.data.root)
    options = settings.evaluation
    return SRDetectionConfig(
        detector,
        data=data,
        num_quality_images=options.num_quality_images,
        class_map=options.class_map,
        image_size=options.image_size,
    )


def evaluate_super_resolver(super_resolver: nn.Module, settings: Settings, run: Run, name: str) -> dict[str, Any]:
    """Evaluate a trained network by the AP of a detector on upscaled images; return the content of ``result.json``."""
    config = plan_evaluation(settings)
    if config is None:
        return run.write_result({"name": name})
    config = replace(config, super_resolvers={name: str(run.folder)}, device=str(run.device))
    results = evaluate_sr_detection(config, run.folder)
    if run.rank == 0:
        print(format_sr_detection(results["pipelines"]))
    return run.write_result({"name": name, "pipelines": results["pipelines"]})


def evaluate_super_resolver_run(
    run: str, data: str, split: str, out: str, inference: InferenceOptions
) -> dict[str, Any]:
    """Evaluate a finished FDSR run by the AP of its detector on upscaled images; results are written to the folder ``out``.

    Raises:
        ValueError: If the run has no detector to evaluate it.
    """
    stored = read_json(Path(run) / "settings.json")
    settings = Settings(
        feature_extractor=FeatureExtractorConfig(stored["feature_extractor"]["network"]),
        data=CropDataConfig(stored["data"]["root"]),
        evaluation=EvaluationConfig(**stored.get("evaluation", {})),
    )
    config = plan_evaluation(settings, data)
    if config is None:
        raise ValueError(
            f"{run} was trained with --evaluation.detector none: featlift evaluate DETECTOR --super-resolvers.fdsr {run}"
        )
    config = replace(config, super_resolvers={"fdsr": run}, split=split, device=inference.device)
    return evaluate_sr_run(config, Path(out or f"{run}/super_resolved"))


def evaluate_sr_run(config: SRDetectionConfig, folder: Path) -> dict[str, Any]:
    """Run :func:`evaluate_sr_detection`, print its table and the folder, and return the results."""
    results = evaluate_sr_detection(config, folder)
    if distributed.get_rank() == 0:
        print(format_sr_detection(results["pipelines"]))
        print(folder)
    return results
