"""One line before a training: what is trained on what, at which size, for how long."""

import warnings
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch

from featlift.data.config import build_dataset
from featlift.data.dataset import ImageDataset
from featlift.detectors.config import build_backbone, build_on_backbone

BICUBIC_START = ("bicubic", "compact")
"""Super-resolution networks that need no pretrained weights: they start as bicubic interpolation."""
WEIGHTS = {"imagenet": "ImageNet weights", "random": "random weights"}


def describe_training(paper: str, settings: Any, device: str, stop_after: str = "") -> str:
    """Describe a training in one line.

    The data are opened, the network is built and the files to start from are looked for, so settings that cannot work are refused
    before a run folder exists.

    Args:
        paper: Name of the paper.
        settings: Its settings.
        device: Device of the training.
        stop_after: Last stage to run; "" for all.

    Raises:
        ValueError: If the settings describe no valid network or data.
        FileNotFoundError: If there are no such images.
    """
    check_start_files(settings)
    warn_random_weights(settings)
    title = paper if paper in ("baseline", "light") else paper.upper()
    if hasattr(settings, "embedder"):
        subject = _describe_generator(settings)
    elif hasattr(settings, "network"):
        subject = _describe_super_resolver(settings)
    else:
        subject = _describe_detector(settings)
    return f"{title}: {subject}, {describe_length(settings, stop_after)}, on {device}"


def warn_random_weights(settings: Any) -> None:
    """Warn where a network starts from random weights although pretrained ones are meant, and say how to get them."""
    model, network = getattr(settings, "model", None), getattr(settings, "network", None)
    if model is not None and model.backbone_weights == "random" and settings.data.root != "scenes":
        warnings.warn(
            f"{model.backbone} has random weights, which need far more images and steps than pretrained ones: "
            "--model.backbone-weights imagenet (downloads timm's) or FILE, or --preset finetune.",
            stacklevel=2,
        )
    if network is not None and not network.weights and network.name not in BICUBIC_START:
        warnings.warn(
            f"{network.name} has random weights; the paper starts from weights trained on DIV2K: --network.weights FILE.",
            stacklevel=2,
        )


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


def _describe_detector(settings: Any) -> str:
    dataset = build_dataset(settings.data)
    num_parameters = count_detector_parameters(settings.model, len(dataset.classes))
    return (
        f"{describe_model(settings.model)} ({num_parameters / 1e6:.1f} M parameters) "
        f"on {describe_dataset(settings.data.root, dataset)}, {describe_image_size(settings.data)}"
    )


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


def _describe_super_resolver(settings: Any) -> str:
    network, source = settings.network, settings.feature_extractor
    weights = f"weights of {Path(network.weights).name}" if network.weights else "random weights"
    name = "built-in scenes" if settings.data.root == "scenes" else settings.data.root
    layers = " + ".join(source.layers)
    features = f"features {layers} of {source.network}"
    return f"{network.name} {network.scale}x ({weights}), {features} on {name}, crops of {settings.data.crop_size} px"


def _describe_generator(settings: Any) -> str:
    embedder, collection = settings.embedder, settings.collection
    weights = "" if embedder.encoder == "gist" else f" ({embedder.weights or 'random'} weights)"
    descriptors = f"{embedder.encoder}{weights} descriptors of {embedder.input_size} px"
    return f"{settings.generator} generator, {descriptors} on {collection.image_folder}"


def describe_length(settings: Any, stop_after: str = "") -> str:
    """Describe the stages and steps: "3 stages, 10,000 steps of 4 images"."""
    if hasattr(settings, "steps"):
        return f"{settings.steps:,} steps of {settings.batch_size} descriptor pairs"
    stages = stages_to_run(settings, stop_after)
    steps = sum(getattr(settings, name).steps for name in stages)
    count = f"{len(stages)} stages, " if len(stages) > 1 else ""
    unit = "crops" if hasattr(settings.data, "crop_size") else "images"
    return f"{count}{steps:,} steps of {settings.data.batch_size} {unit}"


def stages_to_run(settings: Any, stop_after: str = "") -> list[str]:
    """Return the stages with steps, up to ``stop_after``, without those whose result is given (``….teacher_from``)."""
    names = [field.name for field in fields(settings) if hasattr(getattr(settings, field.name), "steps")]
    last = names.index(stop_after) + 1 if stop_after in names else len(names)
    first = names.index("extractor") + 1 if getattr(settings, "extractor_from", "") else 0
    return [
        name
        for name in names[first:last]
        if getattr(settings, name).steps
        and not getattr(settings, f"{name}_from", "")
        and not getattr(settings, f"{name}s_from", "")
    ]
