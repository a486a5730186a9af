"""Retrieval collections and embedders by name, shared by ``featlift index``, ``featlift search`` and FSR-GAN."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from featlift.backbones import image_encoder
from featlift.data.landmarks import (
    CropBox,
    RetrievalCollection,
    list_collection_images,
    load_class_folders,
    load_holidays,
    load_oxford5k,
    load_paris6k,
    load_revisited,
    read_image_crop,
    split_image_files,
)
from featlift.data.synthetic.landmarks import write_synthetic_landmarks
from featlift.retrieval.cache import DescriptorCache, image_key
from featlift.retrieval.descriptors import AveragePooling, Embedder, GeM, VGG16Fc7
from featlift.retrieval.gist import Gist

RETRIEVAL_COLLECTIONS = (
    "synthetic",
    "class-folders",
    "oxford5k",
    "paris6k",
    "revisited-easy",
    "revisited-medium",
    "revisited-hard",
    "holidays",
)


@dataclass(frozen=True)
class CollectionConfig:
    """Retrieval collection and training images.

    Attributes:
        name: "synthetic" (built in), "class-folders" (a folder with ``gallery/<class>/`` and ``query/<class>/``),
            "oxford5k", "paris6k", "revisited-easy", "revisited-medium", "revisited-hard", or "holidays".
        image_folder: Folder of the images; "synthetic" writes its images there.
        ground_truth: Ground truth of Oxford5k and Paris6k: the folder of text files, or the pickle of the revisited sets.
        train_images: Folder of unlabeled training images; "synthetic" renders landmarks that are not in the collection;
            "database" takes ``num_train_images`` random database images, as in the paper (Sec. 4.1, which leaks database
            images into training).
        num_train_images: Number of training images for "database".

    Raises:
        ValueError: if the name is unknown.
    """

    name: str = "synthetic"
    image_folder: str = "data/synthetic-landmarks"
    ground_truth: str = ""
    train_images: str = "synthetic"
    num_train_images: int = 4500  # Sec. 4.1, Oxford5k; 5,800 of Paris6k

    def __post_init__(self) -> None:
        if self.name not in RETRIEVAL_COLLECTIONS:
            raise ValueError(f"Unknown collection '{self.name}'; choose one of {', '.join(RETRIEVAL_COLLECTIONS)}.")


@dataclass(frozen=True)
class EmbedderConfig:
    """Embedder F, which maps an image to a descriptor (Sec. 3.1).

    Attributes:
        encoder: "vgg16-fc7" (the paper's), "gist" (without weights), or a timm network.
        weights: Local weights file; empty for random weights, "download" for timm's pretrained weights.
        pooling: Pooling of timm networks: "average" or "gem".
        input_size: Side in pixels of the encoder's square input; aspect ratios are not preserved (Sec. 5.2).
        mean_std: Mean and standard deviation of all input channels, for timm networks; None for timm's values.
        downscale_mode: Downscaling of queries: "image" (Sec. 5.2), "input" or "nearest".
        cache_folder: Folder of cached descriptors.
    """

    encoder: str = "vgg16-fc7"
    weights: str = ""
    pooling: str = "average"
    input_size: int = 224
    mean_std: tuple[float, float] | None = None
    downscale_mode: str = "image"
    cache_folder: str = "data/descriptors"


def build_descriptor_cache(config: EmbedderConfig) -> DescriptorCache:
    """Embedder F with a descriptor cache on disk."""
    F, dimension = build_embedder(config)
    return DescriptorCache(Path(config.cache_folder), F, dimension, config.downscale_mode)


def build_embedder(config: EmbedderConfig) -> tuple[Embedder, int]:
    """Embedder F and its descriptor length D."""
    network, dimension = build_encoder(config)
    return Embedder(network, build_pooling(config), config.input_size), dimension


def build_encoder(config: EmbedderConfig) -> tuple[nn.Module, int]:
    """Encoder and its descriptor length; timm reports unknown network names."""
    if config.encoder == "gist":
        gist = Gist()
        return gist, gist.dimension
    if config.encoder == "vgg16-fc7":
        return VGG16Fc7(config.weights or None), 4096
    mean_std = config.mean_std and ([config.mean_std[0]] * 3, [config.mean_std[1]] * 3)
    network = image_encoder(config.encoder, config.weights == "download" or config.weights or False, mean_std)
    return network, network.channels


def build_pooling(config: EmbedderConfig) -> nn.Module:
    """Pooling after the encoder; the identity for encoders that return vectors.

    Raises:
        ValueError: if the pooling is unknown.
    """
    poolings = {"average": AveragePooling, "gem": GeM}
    if config.pooling not in poolings:
        raise ValueError(f"Unknown pooling '{config.pooling}'; choose 'average' or 'gem'.")
    return nn.Identity() if config.encoder in ("gist", "vgg16-fc7") else poolings[config.pooling]()


def open_collection(config: CollectionConfig) -> RetrievalCollection:
    """Open the database images and queries of the collection."""
    images, truth = Path(config.image_folder), Path(config.ground_truth)
    if config.name == "synthetic":
        write_synthetic_landmarks(images)
    if config.name in ("synthetic", "class-folders"):
        return load_class_folders(images / "gallery", images / "query")
    if config.name == "holidays":
        return load_holidays(images)
    if config.name.startswith("revisited"):
        return load_revisited(images, truth, config.name.removeprefix("revisited-"))
    return {"oxford5k": load_oxford5k, "paris6k": load_paris6k}[config.name](images, truth)


def list_train_images(config: CollectionConfig) -> list[Path]:
    """Files of the training images, which are used without labels."""
    if config.train_images == "synthetic":
        folder = Path(config.image_folder) / "train"
        write_synthetic_landmarks(folder, num_landmarks=80, gallery_views=6, query_views=0, seed=1)
        return list_collection_images(folder)
    if config.train_images == "database":
        return split_image_files(open_collection(config).database, config.num_train_images)[0]
    return list_collection_images(Path(config.train_images))


def describe_files(
    cache: DescriptorCache, files: Sequence[Path], ratio: float, boxes: Sequence[CropBox | None] = ()
) -> Tensor:
    """Descriptors of all files, cropped to their boxes and downscaled by ``ratio``: ``[N, D]``."""
    boxes = boxes or [None] * len(files)
    keys = [image_key(file, box) for file, box in zip(files, boxes, strict=True)]
    return cache.embed(keys, lambda i: read_image_crop(files[i], boxes[i]), ratio)
