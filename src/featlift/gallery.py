"""Collections and describers by name: what ``featlift index``, ``featlift search`` and FSR-GAN share."""

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
    "places",
    "classes",
    "oxford5k",
    "paris6k",
    "revisited-easy",
    "revisited-medium",
    "revisited-hard",
    "holidays",
)


@dataclass(frozen=True)
class CollectionConfig:
    """What is searched, and the pictures that are learned from.

    Attributes:
        name: "places" (built in), "classes" (a folder with ``gallery/<class>/`` and ``query/<class>/``),
            "oxford5k", "paris6k", "revisited-easy", "-medium", "-hard", or "holidays".
        image_folder: folder of the pictures; that of "places" is filled if it is empty.
        ground_truth: ground truth of the buildings: the folder of text files, or the revisited sets' pickle.
        train_images: folder of pictures to learn from, without labels; "places" draws other places than those that are
            searched; "database" takes ``num_train_images`` random pictures of the database, as the paper does (Sec. 4.1; see there
            for the leak).
        num_train_images: how many, with "database".
    """

    name: str = "places"
    image_folder: str = "data/places"
    ground_truth: str = ""
    train_images: str = "places"
    num_train_images: int = 4500  # Sec. 4.1, Oxford5k; 5,800 of Paris6k

    def __post_init__(self) -> None:
        if self.name not in RETRIEVAL_COLLECTIONS:
            raise ValueError(f"Unknown benchmark '{self.name}'; choose one of {', '.join(RETRIEVAL_COLLECTIONS)}.")


@dataclass(frozen=True)
class EmbedderConfig:
    """F: from a picture to a descriptor (Sec. 3.1).

    Attributes:
        encoder: "vgg16-fc7" (the paper's), "gist" (needs no weights), or a timm network.
        weights: a local file; empty leaves random weights, "download" takes timm's own.
        pooling: "average" or "gem", for timm networks.
        input_size: side of the encoder's input; aspect ratios are lost (Sec. 5.2).
        mean_std: mean and standard deviation for timm networks, the same for all channels; None takes timm's.
        downscale_mode: how small pictures are made: "picture" (Sec. 5.2), "input", "decimated".
        cache_folder: folder that keeps descriptors.
    """

    encoder: str = "vgg16-fc7"
    weights: str = ""
    pooling: str = "average"
    input_size: int = 224
    mean_std: tuple[float, float] | None = None
    downscale_mode: str = "picture"
    cache_folder: str = "data/descriptors"


def build_descriptor_cache(config: EmbedderConfig) -> DescriptorCache:
    """F with its memory on disk."""
    F, dimension = build_embedder(config)
    return DescriptorCache(Path(config.cache_folder), F, dimension, config.downscale_mode)


def build_embedder(config: EmbedderConfig) -> tuple[Embedder, int]:
    """F, and D, the length of its descriptors."""
    network, dimension = build_encoder(config)
    return Embedder(network, build_pooling(config), config.input_size), dimension


def build_encoder(config: EmbedderConfig) -> tuple[nn.Module, int]:
    """The encoder, and the length of its descriptors; timm says which networks there are if this is none."""
    if config.encoder == "gist":
        gist = Gist()
        return gist, gist.dimension
    if config.encoder == "vgg16-fc7":
        return VGG16Fc7(config.weights or None), 4096
    statistics = config.mean_std and ([config.mean_std[0]] * 3, [config.mean_std[1]] * 3)
    network = image_encoder(config.encoder, config.weights == "download" or config.weights or False, statistics)
    return network, network.channels


def build_pooling(config: EmbedderConfig) -> nn.Module:
    """What follows the encoder: nothing where it gives vectors.

    Raises:
        ValueError: if the pooling is unknown.
    """
    pools = {"average": AveragePooling, "gem": GeM}
    if config.pooling not in pools:
        raise ValueError(f"Unknown pooling '{config.pooling}'; choose 'average' or 'gem'.")
    return nn.Identity() if config.encoder in ("gist", "vgg16-fc7") else pools[config.pooling]()


def open_collection(config: CollectionConfig) -> RetrievalCollection:
    """The database and its queries."""
    images, truth = Path(config.image_folder), Path(config.ground_truth)
    if config.name == "places":
        write_synthetic_landmarks(images)
    if config.name in ("places", "classes"):
        return load_class_folders(images / "gallery", images / "query")
    if config.name == "holidays":
        return load_holidays(images)
    if config.name.startswith("revisited"):
        return load_revisited(images, truth, config.name.removeprefix("revisited-"))
    return {"oxford5k": load_oxford5k, "paris6k": load_paris6k}[config.name](images, truth)


def list_train_images(config: CollectionConfig) -> list[Path]:
    """The pictures that are learned from; labels are not used."""
    if config.train_images == "places":
        other = Path(config.image_folder) / "learn"
        write_synthetic_landmarks(other, num_landmarks=80, gallery_views=6, query_views=0, seed=1)
        return list_collection_images(other)
    if config.train_images == "database":
        return split_image_files(open_collection(config).database, config.num_train_images)[0]
    return list_collection_images(Path(config.train_images))


def describe_files(
    cache: DescriptorCache, files: Sequence[Path], ratio: float, boxes: Sequence[CropBox | None] = ()
) -> Tensor:
    """F of every file (cut to its box), ``ratio`` times smaller: ``[N, D]``."""
    boxes = boxes or [None] * len(files)
    keys = [image_key(file, box) for file, box in zip(files, boxes, strict=True)]
    return cache.embed(keys, lambda i: read_image_crop(files[i], boxes[i]), ratio)
