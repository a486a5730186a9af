"""``featlift sr``: pictures enlarged."""

from featlift.deployment.upscaling import Enlarging, enlarge

AS_IT_IS = Enlarging()


def sr(pictures: str, out: str = "enlarged", how: Enlarging = AS_IT_IS) -> None:
    """Enlarge a picture or a folder of pictures; names, sub-folders and formats are kept.

    Args:
        pictures: a file or a folder.
        out: where the enlarged ones go; files that are there already are left as they are.
        how: which network, and how it runs.
    """
    files = enlarge(pictures, out, how)
    print(f"{len(files)} pictures: {out}")
