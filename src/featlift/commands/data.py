"""``featlift data``: make a COCO folder of built-in pictures; check a COCO folder."""

from featlift.data import coco_folders


def make(out: str, train: int = 400, val: int = 100, side: int = 320, seed: int = 0) -> None:
    """Write built-in scenes as a COCO folder.

    Args:
        out: the folder; it must not be there yet.
        train: pictures for training.
        val: pictures for validation.
        side: of the pictures in pixels.
        seed: other scenes for another number.
    """
    coco_folders.make(out, train, val, (side, side), seed)
    print(f"{train} + {val} pictures of {side}x{side}: {out}")


def check(root: str) -> None:
    """Read every picture and entry of a COCO folder; print what is there, by size and class, and what is wrong.

    Args:
        root: the folder.

    Raises:
        ValueError: if anything is broken, after everything was printed.
    """
    surveys = coco_folders.check(root).values()
    for survey in surveys:
        print(survey)
    broken = sum(len(survey.report.skipped) for survey in surveys)
    if broken:
        raise ValueError(
            f"{broken} things in '{root}' are broken (above). Repair them, or train with --skip-broken, which leaves them out."
        )
