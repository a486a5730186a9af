"""``featlift upscale``: upscale images with a super-resolution network."""

from featlift.deployment.upscaling import UpscaleOptions, upscale_images

DEFAULT_UPSCALE = UpscaleOptions()


def upscale(images: str, out: str = "upscaled", options: UpscaleOptions = DEFAULT_UPSCALE) -> None:
    """Upscale an image or a folder of images; file names, sub-folders and formats are kept.

    Args:
        images: Image file or folder.
        out: Output folder; existing files are skipped.
        options: Network, scale, tiling and precision.
    """
    files = upscale_images(images, out, options)
    print(f"{len(files)} images: {out}")
