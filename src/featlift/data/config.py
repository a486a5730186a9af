"""Configuration of the training and validation images, and the functions that build datasets and loaders."""

from dataclasses import dataclass, replace
from pathlib import Path

from featlift.checkpoints.damage import read_json
from featlift.data.augment import Augmentation, HalfSizeView, RandomHorizontalFlip, RandomShortestSize, drop_masks
from featlift.data.batches import ResumableDataLoader
from featlift.data.coco import CocoDataset
from featlift.data.crops import RandomCropOfLargeImages
from featlift.data.dataset import ImageDataset
from featlift.data.image_io import MAX_PIXELS
from featlift.data.open_dataset import locate_split, open_dataset
from featlift.data.reduced_images import reduce_images
from featlift.data.run_data import check_same_classes, record_run_data
from featlift.data.synthetic.scenes import SyntheticScenes
from featlift.training import Run


@dataclass(frozen=True)
class DataConfig:
    """Training and validation images and their sizes.

    Attributes:
        root: Dataset: "scenes" (synthetic images), a folder in the format of COCO, YOLO, PASCAL VOC, LabelMe, Hugging Face or masks as
            images (or its JSON or YAML file), or TT100K's folder (or the JSON file of a release).
        batch_size: Images per step, over all processes together.
        min_size: Short sides in pixels, one of which is drawn per image; empty keeps each image's size.
        max_size: Maximum long side in pixels.
        crop_size: Maximum side in pixels of training images, of which a random crop is used if they are larger; 0 for no crops.
        hflip_prob: Probability of a horizontal flip.
        with_masks: Keep masks in training images; without them a detector that predicts no masks trains faster.
        num_workers: Worker processes that load images.
        skip_broken: Go on without broken images and annotations, and list them, instead of stopping; unusable objects are ignored regions.
        max_pixels: Maximum number of pixels of an image; larger ones are errors.
        num_scenes: Number of synthetic training images.
        scene_size: Side of the synthetic images in pixels.
        num_val_scenes: Number of synthetic validation images; they follow the training images.
        scene_seed: Seed of the synthetic images.
        scene_object_sizes: Smallest and largest side of the signs in synthetic images, in pixels.
        val_root: Dataset of the validation images if they are not in ``root``: its split "val", or all of it if it is not divided.
        fast_decode: Decode JPEG training images at 1/2, 1/4 or 1/8 of their size where ``min_size`` reduces them anyway; pixel values
            change slightly, boxes do not.
    """

    root: str = "scenes"
    batch_size: int = 16
    min_size: tuple[int, ...] = (640, 672, 704, 736, 768, 800)
    max_size: int = 1333
    crop_size: int = 0
    hflip_prob: float = 0.5
    with_masks: bool = True
    num_workers: int = 2
    skip_broken: bool = False
    max_pixels: int = MAX_PIXELS
    num_scenes: int = 2000
    scene_size: int = 320
    num_val_scenes: int = 500
    scene_seed: int = 0
    scene_object_sizes: tuple[int, int] = (6, 40)
    val_root: str = ""
    fast_decode: bool = False

    def __post_init__(self) -> None:
        """Refuse sizes that are not positive, and reduced decoding without sizes."""
        if any(size < 1 for size in self.min_size):
            raise ValueError(
                f"--data.min-size is {', '.join(map(str, self.min_size))}; short sides are at least 1 px. [] keeps each image's size."
            )
        if self.crop_size < 0:
            raise ValueError(f"--data.crop-size is {self.crop_size}; give a side in pixels, or 0 for no crops.")
        if self.fast_decode and not self.min_size:
            raise ValueError(
                "--data.fast-decode needs --data.min-size: without it each image keeps its size and is decoded in full."
            )


def finetune_data_config() -> DataConfig:
    """Return images of one's own with short sides of 640 to 800 px, batch size 4, for one GPU."""
    return DataConfig(batch_size=4)


def quick_data_config() -> DataConfig:
    """Return synthetic scenes of 160 px without resizing, batch size 8."""
    return DataConfig(batch_size=8, min_size=(), num_workers=0, num_scenes=800, scene_size=160, num_val_scenes=200)


def build_dataset(config: DataConfig, split: str = "train") -> ImageDataset:
    """Build the dataset of ``split``, "train" or "val"."""
    root, name = locate_split(config.root, config.val_root, split)
    is_train = split == "train"
    if root != "scenes":
        return open_dataset(root, name, config.skip_broken, config.max_pixels, config.with_masks or not is_train)
    return SyntheticScenes(
        config.num_scenes if is_train else config.num_val_scenes,
        (config.scene_size, config.scene_size),
        config.scene_seed,
        object_sizes=config.scene_object_sizes,
        first_index=0 if is_train else config.num_scenes,
    )


def load_training_set(config: DataConfig, run: Run) -> ImageDataset:
    """Build the training set. For a folder, the report of loaded and skipped data is printed and written to the run's ``data.txt``.

    Raises:
        ValueError: If the classes of the validation set differ, or the data changed since the run began.
    """
    dataset = build_dataset(config)
    check_same_classes(
        dataset, build_dataset(config, "val"), " and ".join(filter(None, (config.root, config.val_root)))
    )
    record_run_data(run, dataset)
    if isinstance(dataset, CocoDataset) and run.rank == 0:
        print(dataset.report)
        (run.folder / "data.txt").write_text(f"{dataset.report}\n", encoding="utf-8")
    return dataset


def load_data_config(run: str | Path, root: str = "") -> DataConfig:
    """Load the data settings of a run folder, or of the run folder that contains a detector file; ``root`` replaces the stored data.

    Raises:
        FileNotFoundError: If ``run`` is no run folder and ``root`` is empty.
    """
    folder = Path(run).parent if Path(run).is_file() else Path(run)
    settings = folder / "settings.json"
    if settings.is_file():
        data = read_json(settings)["data"]
        sizes = {name: tuple(data[name]) for name in ("min_size", "scene_object_sizes") if name in data}
        stored = replace(DataConfig(**data), **sizes)
        return replace(stored, root=root, val_root="") if root else stored
    if not root:
        raise FileNotFoundError(f"'{run}' is no run folder, so its dataset is unknown; give a COCO folder or 'scenes'.")
    return DataConfig(root=root)


def build_train_loader(
    config: DataConfig, dataset: ImageDataset, seed: int, with_half_size: bool = False
) -> ResumableDataLoader:
    """Build endless training batches, flipped, resized and cropped by ``config``.

    ``with_half_size`` adds a half-size view of the original image.

    Raises:
        ValueError: If crops and half-size views are requested together.
    """
    resize: list[Augmentation] = [RandomShortestSize(config.min_size, config.max_size)] if config.min_size else []
    if config.crop_size and with_half_size:
        raise ValueError("A half-size view of the original image cannot be cropped; set --data.crop-size 0.")
    if config.crop_size:
        resize.append(RandomCropOfLargeImages(config.crop_size))
    views = [HalfSizeView(*resize)] if with_half_size else resize
    return ResumableDataLoader(
        reduce_images(dataset, config.min_size, config.max_size) if config.fast_decode else dataset,
        config.batch_size,
        seed,
        [*([] if config.with_masks else [drop_masks]), RandomHorizontalFlip(config.hflip_prob), *views],
        num_workers=config.num_workers,
    )


def count_classes(root: str) -> int:
    """Return the number of classes of the dataset ``root``; COCO's 90 category ids if ``root`` is empty."""
    return len(build_dataset(DataConfig(root=root)).classes) if root else 90
