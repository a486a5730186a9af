"""``featlift data``: generate a COCO folder of synthetic images; check and convert datasets."""

from featlift.data import coco_folders, convert
from featlift.data.check import check_dataset


def generate_data(out: str, num_train: int = 400, num_val: int = 100, image_size: int = 320, seed: int = 0) -> None:
    """Write synthetic scenes as a COCO folder.

    Args:
        out: Output folder; it must be empty or not exist.
        num_train: Number of training images.
        num_val: Number of validation images.
        image_size: Height and width of the images in pixels.
        seed: Random seed.
    """
    coco_folders.write_synthetic_dataset(out, num_train, num_val, (image_size, image_size), seed)
    print(f"{num_train} + {num_val} images of {image_size}x{image_size}: {out}")


def check_data(root: str, val_root: str = "") -> None:
    """Read every image and annotation of a dataset; print object counts by size and class, all problems, and likely mistakes.

    Args:
        root: Folder in the format of COCO, YOLO, PASCAL VOC, LabelMe, Hugging Face or masks as images, or a JSON or YAML file of one.
        val_root: Dataset of the validation images if they are not in ``root``.

    Raises:
        ValueError: If there are problems or errors, after all are printed.
    """
    result = check_dataset(root, val_root)
    print(result)
    if result.num_errors:
        raise ValueError(
            f"'{root}' has {result.num_errors} problems, listed above. Repair them, or train with --skip-broken, which goes on without "
            "invalid entries."
        )


def convert_data(
    source: str, out: str, to: str = "coco", val_fraction: float = 0.0, skip_broken: bool = False, seed: int = 0
) -> None:
    """Write a dataset in another format, and print what that format cannot store.

    Args:
        source: Dataset: a folder in the format of COCO, YOLO, PASCAL VOC, LabelMe, Hugging Face or masks as images, or its JSON or YAML
            file.
        out: Output folder; it must be empty or not exist.
        to: Format: "coco", "yolo", "voc", "labelme", "masks" or "hugging-face".
        val_fraction: Fraction of the images that become the split "val", if the dataset is not divided.
        skip_broken: Leave out entries that cannot be read, and list them.
        seed: Random seed of the division.
    """
    for line in convert.convert_dataset(source, out, to, val_fraction, skip_broken, seed):
        print(line)
    print(out)
