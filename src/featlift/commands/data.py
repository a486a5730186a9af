"""``featlift data``: make a COCO folder of built-in pictures; check a COCO folder."""

from featlift.data import coco_folders


def generate_data(out: str, num_train: int = 400, num_val: int = 100, image_size: int = 320, seed: int = 0) -> None:
    """Write built-in scenes as a COCO folder.

    Args:
        out: the folder; it must not be there yet.
        num_train: pictures for training.
        num_val: pictures for validation.
        image_size: of the pictures in pixels.
        seed: other scenes for another number.
    """
    coco_folders.write_synthetic_dataset(out, num_train, num_val, (image_size, image_size), seed)
    print(f"{num_train} + {num_val} pictures of {image_size}x{image_size}: {out}")


def check_data(root: str) -> None:
    """Read every picture and entry of a COCO folder; print what is there, by size and class, and what is wrong.

    Args:
        root: the folder.

    Raises:
        ValueError: if anything is broken, after everything was printed.
    """
    surveys = coco_folders.check_coco_dataset(root).values()
    for survey in surveys:
        print(survey)
    broken = sum(len(survey.report.problems) for survey in surveys)
    if broken:
        raise ValueError(
            f"{broken} things in '{root}' are broken (above). Repair them, or train with --skip-broken, which leaves them out."
        )
