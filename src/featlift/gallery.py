"""Collections and describers by name: what ``featlift index``, ``featlift search`` and FSR-GAN share."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from featlift.backbones import encoder
from featlift.data.landmarks import (
    Box,
    Landmarks,
    by_class,
    holidays,
    oxford5k,
    paris6k,
    pictures,
    random_split,
    read_picture,
    revisited,
)
from featlift.data.synthetic.landmarks import write_places
from featlift.retrieval.cache import DescriptorCache, picture_key
from featlift.retrieval.descriptors import Average, Describer, Fc7, GeM
from featlift.retrieval.gist import Gist

BENCHMARKS = (
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
class Collection:
    """What is searched, and the pictures that are learned from.

    Attributes:
        benchmark: "places" (built in), "classes" (a folder with ``gallery/<class>/`` and ``query/<class>/``),
            "oxford5k", "paris6k", "revisited-easy", "-medium", "-hard", or "holidays".
        images: folder of the pictures; that of "places" is filled if it is empty.
        truth: ground truth of the buildings: the folder of text files, or the revisited sets' pickle.
        learn_from: folder of pictures to learn from, without labels; "places" draws other places than those that are
            searched; "database" takes ``learn`` random pictures of the database, as the paper does (Sec. 4.1; see there
            for the leak).
        learn: how many, with "database".
    """

    benchmark: str = "places"
    images: str = "data/places"
    truth: str = ""
    learn_from: str = "places"
    learn: int = 4500  # Sec. 4.1, Oxford5k; 5,800 of Paris6k

    def __post_init__(self) -> None:
        if self.benchmark not in BENCHMARKS:
            raise ValueError(f"Unknown benchmark '{self.benchmark}'; choose one of {', '.join(BENCHMARKS)}.")


@dataclass(frozen=True)
class Encoding:
    """F: from a picture to a descriptor (Sec. 3.1).

    Attributes:
        encoder: "vgg16-fc7" (the paper's), "gist" (needs no weights), or a timm network.
        weights: a local file; empty leaves random weights, "download" takes timm's own.
        pool: "average" or "gem", for timm networks.
        size: side of the encoder's input; aspect ratios are lost (Sec. 5.2).
        statistics: mean and standard deviation for timm networks, the same for all channels; None takes timm's.
        view: how small pictures are made: "picture" (Sec. 5.2), "input", "decimated".
        cache: folder that keeps descriptors.
    """

    encoder: str = "vgg16-fc7"
    weights: str = ""
    pool: str = "average"
    size: int = 224
    statistics: tuple[float, float] | None = None
    view: str = "picture"
    cache: str = "data/descriptors"


def remembering(encoding: Encoding) -> DescriptorCache:
    """F with its memory on disk."""
    F, dimension = describer(encoding)
    return DescriptorCache(Path(encoding.cache), F, dimension, encoding.view)


def describer(encoding: Encoding) -> tuple[Describer, int]:
    """F, and D, the length of its descriptors."""
    network, dimension = network_of(encoding)
    return Describer(network, pool_of(encoding), encoding.size), dimension


def network_of(encoding: Encoding) -> tuple[nn.Module, int]:
    """The encoder, and the length of its descriptors; timm says which networks there are if this is none."""
    if encoding.encoder == "gist":
        gist = Gist()
        return gist, gist.dimension
    if encoding.encoder == "vgg16-fc7":
        return Fc7(encoding.weights or None), 4096
    statistics = encoding.statistics and ([encoding.statistics[0]] * 3, [encoding.statistics[1]] * 3)
    network = encoder(encoding.encoder, encoding.weights == "download" or encoding.weights or False, statistics)
    return network, network.channels


def pool_of(encoding: Encoding) -> nn.Module:
    """What follows the encoder: nothing where it gives vectors.

    Raises:
        ValueError: if the pooling is unknown.
    """
    pools = {"average": Average, "gem": GeM}
    if encoding.pool not in pools:
        raise ValueError(f"Unknown pooling '{encoding.pool}'; choose 'average' or 'gem'.")
    return nn.Identity() if encoding.encoder in ("gist", "vgg16-fc7") else pools[encoding.pool]()


def opened(collection: Collection) -> Landmarks:
    """The database and its queries."""
    images, truth = Path(collection.images), Path(collection.truth)
    if collection.benchmark == "places":
        write_places(images)
    if collection.benchmark in ("places", "classes"):
        return by_class(images / "gallery", images / "query")
    if collection.benchmark == "holidays":
        return holidays(images)
    if collection.benchmark.startswith("revisited"):
        return revisited(images, truth, collection.benchmark.removeprefix("revisited-"))
    return {"oxford5k": oxford5k, "paris6k": paris6k}[collection.benchmark](images, truth)


def learning(collection: Collection) -> list[Path]:
    """The pictures that are learned from; labels are not used."""
    if collection.learn_from == "places":
        other = Path(collection.images) / "learn"
        write_places(other, places=80, views=6, queries=0, seed=1)
        return pictures(other)
    if collection.learn_from == "database":
        return random_split(opened(collection).database, collection.learn)[0]
    return pictures(Path(collection.learn_from))


def seen(F: DescriptorCache, files: Sequence[Path], ratio: float, boxes: Sequence[Box | None] = ()) -> Tensor:
    """F of every file (cut to its box), ``ratio`` times smaller: ``[N, D]``."""
    boxes = boxes or [None] * len(files)
    keys = [picture_key(file, box) for file, box in zip(files, boxes, strict=True)]
    return F.describe(keys, lambda i: read_picture(files[i], boxes[i]), ratio)
