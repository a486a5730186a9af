"""One line before a training: what is trained on what, at which size, for how long."""

import warnings
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch

from featlift.data.config import build_dataset
from featlift.data.dataset import ImageDataset
from featlift.detectors.config import build_backbone, build_on_backbone
from featlift.training.schedules import StageConfig

BICUBIC_START = ("bicubic", "compact")
"""Super-resolution networks that need no pretrained weights: they start as bicubic interpolation."""
WEIGHTS = {"imagenet": "ImageNet weights", "random": "random weights"}


def announce_training(name: str, description: str, device: str) -> str:
    """Return the line: "AFI-GAN: faster-rcnn, … on FOLDER (…), images 640–800 px, 3 stages, 10,000 steps of 4 images, on cuda"."""
    return f"{name if name in ('baseline', 'light') else name.upper()}: {description}, on {device}"


def describe_detector_training(settings: Any, stop_after: str = "") -> str:
    """Describe the training of a detector: network, data, image size, stages and steps.

    The data are opened, the network is built and the files to start from are looked for, so settings that cannot work are refused
    before a run folder exists. Warns if the backbone has random weights on one's own images.

    Args:
        settings: Settings with ``model`` and ``data``.
        stop_after: Last stage to run; "" for all.

    Raises:
        ValueError: If the settings describe no valid network or data.
        FileNotFoundError: If there are no such images or files.
    """
    check_start_files(settings)
    dataset, model = build_dataset(settings.data), settings.model
    if model.backbone_weights == "random" and settings.data.root != "scenes":
        warnings.warn(
            f"{model.backbone} has random weights, which need far more images and steps than pretrained ones: "
            "--model.backbone-weights imagenet (downloads timm's) or FILE, or --preset finetune.",
            stacklevel=2,
        )
    num_parameters = count_detector_parameters(model, len(dataset.classes))
    subject = f"{describe_model(model)} ({num_parameters / 1e6:.1f} M parameters)"
    images = f"{describe_dataset(settings.data.root, dataset)}, {describe_image_size(settings.data)}"
    return f"{subject} on {images}, {describe_length(settings, 'images', stop_after)}"


def describe_super_resolver_training(settings: Any, stop_after: str = "") -> str:
    """Describe the training of a super-resolution network; warns if it has random weights where the paper has DIV2K's.

    Raises:
        FileNotFoundError: If the feature extractor is a run folder that does not exist.
    """
    network, source = settings.network, settings.feature_extractor
    _check_feature_network(source.network)
    if not network.weights and network.name not in BICUBIC_START:
        warnings.warn(
            f"{network.name} has random weights; the paper starts from weights trained on DIV2K: --network.weights FILE.",
            stacklevel=2,
        )
    weights = f"weights of {Path(network.weights).name}" if network.weights else "random weights"
    name = "built-in scenes" if settings.data.root == "scenes" else settings.data.root
    features = f"features {' + '.join(source.layers)} of {source.network}"
    subject = (
        f"{network.name} {network.scale}x ({weights}), {features} on {name}, crops of {settings.data.crop_size} px"
    )
    return f"{subject}, {describe_length(settings, 'crops', stop_after)}"


def _check_feature_network(network: str) -> None:
    if len(Path(network).parts) > 1 and not Path(network).exists():
        raise FileNotFoundError(
            f"There is no run folder {network}; train one with featlift train baseline --run {network}, "
            "or name a torchvision or timm network with --feature-extractor.network."
        )


def describe_generator_training(settings: Any, stop_after: str = "") -> str:
    """Describe the training of a descriptor generator; `featlift.retrieval.embedders` warns if the encoder has random weights."""
    embedder, collection = settings.embedder, settings.collection
    weights = "" if embedder.encoder == "gist" else f" ({embedder.weights or 'random'} weights)"
    descriptors = f"{embedder.encoder}{weights} descriptors of {embedder.input_size} px on {collection.image_folder}"
    steps = f"{settings.steps:,} steps of {settings.batch_size} descriptor pairs"
    return f"{settings.generator} generator, {descriptors}, {steps}"


def check_start_files(settings: Any) -> None:
    """Check that the runs and files exist from which a training starts (``teacher_from``, ``teachers_from``, ``init_from``, …).

    Raises:
        FileNotFoundError: If one does not.
    """
    for field in fields(settings):
        value = getattr(settings, field.name) if field.name.endswith("_from") else ()
        for path in [value] if isinstance(value, str) else value:
            if path and not Path(path).exists():
                raise FileNotFoundError(f"--{field.name.replace('_', '-')} names {path}, which does not exist.")


def describe_model(model: Any) -> str:
    """Describe a `DetectorConfig`: "faster-rcnn, resnet50 (ImageNet weights), fpn + afi"."""
    weights = WEIGHTS.get(model.backbone_weights, f"weights of {Path(model.backbone_weights).name}")
    return f"{model.detector}, {model.backbone} ({weights}), {model.pyramid} + {model.interpolator}"


def count_detector_parameters(model: Any, num_classes: int) -> int:
    """Return the number of parameters of the detector of ``model``; no weights are downloaded.

    Raises:
        ValueError: If ``model`` cannot be built.
    """
    random_model = replace(model, backbone_weights="random")
    with torch.random.fork_rng(devices=[]):
        backbone = build_backbone(random_model)
        with torch.device("meta"):
            detector = build_on_backbone(backbone, random_model, num_classes)
    return sum(p.numel() for p in detector.parameters())


def describe_dataset(root: str, dataset: ImageDataset) -> str:
    """Describe the images: "FOLDER (406 images, 4 classes)"."""
    name = "built-in scenes" if root == "scenes" else root
    return f"{name} ({len(dataset):,} images, {len(dataset.classes)} classes)"


def describe_image_size(data: Any) -> str:
    """Describe the short sides of a `DataConfig`: "images 640–800 px"."""
    sizes = sorted(data.min_size)
    if not sizes:
        return f"images {data.scene_size} px" if data.root == "scenes" else "images at their own size"
    return f"images {sizes[0]}–{sizes[-1]} px" if len(sizes) > 1 else f"images {sizes[0]} px"


def describe_length(settings: Any, unit: str, stop_after: str = "") -> str:
    """Describe the stages and steps: "3 stages, 10,000 steps of 4 images", where ``unit`` is "images"."""
    stages = stages_to_run(settings, stop_after)
    count = f"{len(stages)} stages, " if len(stages) > 1 else ""
    return f"{count}{sum(stages.values()):,} steps of {settings.data.batch_size} {unit}"


def stages_to_run(settings: Any, stop_after: str = "") -> dict[str, int]:
    """Return stage → steps, up to ``stop_after``, without stages that have no steps or whose result is given (``….teacher_from``)."""
    values = {field.name: getattr(settings, field.name) for field in fields(settings)}
    steps = {name: value.steps for name, value in values.items() if isinstance(value, StageConfig)}
    names = list(steps)
    last = names.index(stop_after) + 1 if stop_after in names else len(names)
    first = names.index("extractor") + 1 if values.get("extractor_from") else 0
    given = {name for name in names if values.get(f"{name}_from") or values.get(f"{name}s_from")}
    return {name: steps[name] for name in names[first:last] if steps[name] and name not in given}
