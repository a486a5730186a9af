"""``featlift data``: generate a COCO folder of synthetic images; check a dataset."""

from featlift.data import coco_folders
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


def check_data(root: str) -> None:
    """Read every image and annotation of a dataset; print object counts by size and class, all problems, and likely mistakes.

    Args:
        root: Dataset folder, as of ``--data``.

    Raises:
        ValueError: If there are problems or errors, after all are printed.
    """
    result = check_dataset(root)
    print(result)
    if result.num_errors:
        raise ValueError(
            f"'{root}' has {result.num_errors} problems, listed above. Repair them, or train with --skip-broken, which goes on without "
            "invalid entries."
        )
