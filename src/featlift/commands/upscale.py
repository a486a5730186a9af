"""``featlift sr``: pictures enlarged."""

from featlift.deployment.upscaling import UpscaleOptions, upscale_images

DEFAULT_UPSCALE = UpscaleOptions()


def upscale(images: str, out: str = "enlarged", options: UpscaleOptions = DEFAULT_UPSCALE) -> None:
    """Enlarge a picture or a folder of pictures; names, sub-folders and formats are kept.

    Args:
        images: a file or a folder.
        out: where the enlarged ones go; files that are there already are left as they are.
        options: which network, and how it runs.
    """
    files = upscale_images(images, out, options)
    print(f"{len(files)} pictures: {out}")
