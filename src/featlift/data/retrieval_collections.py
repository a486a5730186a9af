"""Retrieval collections by name, and the images that are trained on."""

from dataclasses import dataclass
from pathlib import Path

from featlift.data.image_io import list_images
from featlift.data.retrieval_images import split_image_files
from featlift.data.retrieval_readers import (
    RetrievalCollection,
    load_class_folders,
    load_holidays,
    load_oxford5k,
    load_paris6k,
    load_revisited,
)
from featlift.data.synthetic.landmarks import write_synthetic_landmarks
from featlift.registry import check_choice

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
            "database" takes ``num_train_images`` random database images, of Holidays all but the queries, as in the paper
            (Sec. 4.1, which leaks database images into training).
        num_train_images: Number of training images for "database"; Holidays has 991.
        distractors: Folder of images without any object of the queries, with which the database is also evaluated (Sec. 5.3).

    Raises:
        ValueError: If the name is unknown.
    """

    name: str = "synthetic"
    image_folder: str = "data/synthetic-landmarks"
    ground_truth: str = ""
    train_images: str = "synthetic"
    num_train_images: int = 4500  # Sec. 4.1, Oxford5k; 5,800 of Paris6k
    distractors: str = ""

    def __post_init__(self) -> None:
        check_choice(self.name, RETRIEVAL_COLLECTIONS, "collection")


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
        return list_images(folder)
    if config.train_images == "database":
        return split_database(config)[0]
    return list_images(Path(config.train_images))


def split_database(config: CollectionConfig) -> tuple[list[Path], list[Path]]:
    """Split the database into training and held-out images (Sec. 4.1): at random, or for Holidays into other images and queries."""
    collection = open_collection(config)
    if config.name != "holidays":
        return split_image_files(collection.database, config.num_train_images)
    queries = {query.image_path for query in collection.queries}
    return [file for file in collection.database if file not in queries], sorted(queries)


def list_held_out_images(config: CollectionConfig) -> list[Path]:
    """Files of the images on which distances are computed (Figs. 4 and 5): the held-out database images, or else the queries' images."""
    if config.train_images == "database":
        return split_database(config)[1]
    return sorted({query.image_path for query in open_collection(config).queries})
