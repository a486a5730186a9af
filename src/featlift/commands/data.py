"""``featlift data``: generate a COCO folder of synthetic images; check a COCO folder."""

from featlift.data import coco_folders


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
    """Read every image and annotation of a COCO folder; print object counts by size and class, and all problems.

    Args:
        root: COCO folder.

    Raises:
        ValueError: If there are problems, after all are printed.
    """
    surveys = coco_folders.check_coco_dataset(root).values()
    for survey in surveys:
        print(survey)
    num_problems = sum(len(survey.report.problems) for survey in surveys)
    if num_problems:
        raise ValueError(
            f"'{root}' has {num_problems} problems, listed above. Repair them, or train with --skip-broken to leave them out."
        )
