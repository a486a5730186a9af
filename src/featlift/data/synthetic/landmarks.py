"""A small synthetic landmark collection, to try image retrieval without a download.

A landmark is a street of houses with its own colors, windows, roofs and signs. A view is a photograph of it with random
distance, angle, brightness and pedestrians. Every image is a function of (seed, landmark, view).
"""

import random
from functools import partial
from pathlib import Path

from PIL import Image, ImageDraw, ImageEnhance

from featlift.checkpoints.atomic import write_atomic

_RGB = tuple[int, int, int]

WALL_COLORS = ((176, 150, 126), (158, 92, 76), (196, 182, 160), (142, 142, 146), (188, 164, 110), (128, 118, 104))
ROOF_COLORS = ((92, 70, 62), (70, 74, 84), (120, 66, 52))
"""Few, muted colors, shared by all landmarks: windows, roofs and signs identify a landmark, and are lost first by
downscaling.
"""


def write_synthetic_landmarks(
    folder: Path,
    num_landmarks: int = 40,
    gallery_views: int = 8,
    query_views: int = 2,
    image_size: int = 192,
    seed: int = 0,
) -> None:
    """Write ``folder/{gallery,query}/<landmark>/<view>.png``, square images of ``image_size`` pixels.

    :func:`featlift.data.retrieval_readers.load_class_folders` reads this layout. Existing images are kept, so an interrupted call
    can be repeated.
    """
    for landmark in range(num_landmarks):
        for view in range(gallery_views + query_views):
            part = "gallery" if view < gallery_views else "query"
            file = Path(folder) / part / f"landmark-{landmark:03d}" / f"{view:02d}.png"
            if not file.exists():
                image = draw_landmark_view(landmark, view, image_size, seed)
                write_atomic(file, partial(image.save, format="png"))


def draw_landmark_view(landmark: int, view: int, image_size: int = 192, seed: int = 0) -> Image.Image:
    """Draw a view of a landmark: RGB, ``image_size`` × ``image_size``."""
    rng = random.Random(f"{seed}/{landmark}/{view}")
    scene = draw_landmark(landmark, 3 * image_size, seed)
    _draw_pedestrians(scene, rng)
    photo = scene.transform(
        (2 * image_size, 2 * image_size),
        Image.Transform.QUAD,
        _camera_corners(3 * image_size, rng),
        Image.Resampling.BICUBIC,
    )
    photo = ImageEnhance.Brightness(photo).enhance(rng.uniform(0.65, 1.3))
    photo = ImageEnhance.Color(photo).enhance(rng.uniform(0.6, 1.2))
    return photo.resize((image_size, image_size), Image.Resampling.LANCZOS)


def draw_landmark(landmark: int, image_size: int, seed: int = 0) -> Image.Image:
    """Draw the frontal scene of a landmark: RGB, ``image_size`` × ``image_size``."""
    rng = random.Random(f"{seed}/{landmark}")
    scene = Image.new("RGB", (image_size, image_size), _jitter_color((190, 206, 222), rng))
    draw = ImageDraw.Draw(scene)
    ground = int(image_size * rng.uniform(0.78, 0.88))
    draw.rectangle((0, ground, image_size, image_size), fill=_jitter_color((104, 100, 96), rng))
    left = -int(image_size * rng.uniform(0, 0.1))
    while left < image_size:
        width = int(image_size * rng.uniform(0.16, 0.34))
        _draw_house(draw, (left, int(ground - image_size * rng.uniform(0.25, 0.6)), left + width, ground), rng)
        left += width
    return scene


def _draw_house(draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], rng: random.Random) -> None:
    draw.rectangle(box, fill=_jitter_color(rng.choice(WALL_COLORS), rng))
    _draw_roof(draw, box, _jitter_color(rng.choice(ROOF_COLORS), rng), rng)
    _draw_windows(draw, box, _jitter_color(rng.choice(((58, 66, 80), (222, 214, 196))), rng), rng)
    if rng.random() < 0.6:
        _draw_sign(draw, box, rng)


def _draw_roof(draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], color: _RGB, rng: random.Random) -> None:
    left, top, right, _ = box
    height = int((right - left) * rng.uniform(0.2, 0.6))
    kind = rng.choice(("flat", "gable", "dome", "spire"))
    if kind == "flat":
        draw.rectangle((left, top - height // 6, right, top), fill=color)
    elif kind == "dome":
        draw.pieslice((left, top - height, right, top + height), 180, 360, fill=color)
    else:
        peak = top - height * (2 if kind == "spire" else 1)
        draw.polygon([(left, top), ((left + right) // 2, peak), (right, top)], fill=color)


def _draw_windows(draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], color: _RGB, rng: random.Random) -> None:
    left, top, right, bottom = box
    columns, rows = rng.randint(2, 6), rng.randint(3, 9)
    cell_width, cell_height = (right - left) / columns, (bottom - top) / rows
    width, height, rounded = rng.uniform(0.3, 0.7), rng.uniform(0.4, 0.75), rng.random() < 0.4
    for row in range(rows):
        for column in range(columns):
            x, y = left + (column + 0.5 - width / 2) * cell_width, top + (row + 0.5 - height / 2) * cell_height
            window = (x, y, x + width * cell_width, y + height * cell_height)
            draw.ellipse(window, fill=color) if rounded else draw.rectangle(window, fill=color)


def _draw_sign(draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], rng: random.Random) -> None:
    left, top, right, bottom = box
    x, y = (left + right) / 2, top + (bottom - top) * rng.uniform(0.1, 0.8)
    radius = (right - left) * rng.uniform(0.15, 0.4)
    outer, inner = _random_color(rng, 0, 255), _random_color(rng, 0, 255)
    frame = (x - radius, y - radius, x + radius, y + radius)
    core = (x - radius / 2, y - radius / 2, x + radius / 2, y + radius / 2)
    if rng.random() < 0.5:
        draw.ellipse(frame, fill=outer)
        draw.rectangle(core, fill=inner)
    else:
        draw.rectangle(frame, fill=outer)
        draw.ellipse(core, fill=inner)


def _draw_pedestrians(scene: Image.Image, rng: random.Random) -> None:
    draw, size = ImageDraw.Draw(scene), scene.width
    for _ in range(rng.randint(2, 6)):
        x, height = rng.uniform(0, size), size * rng.uniform(0.08, 0.22)
        base, coat = size * rng.uniform(0.85, 1), _random_color(rng, 0, 200)
        draw.ellipse((x - height / 5, base - height, x + height / 5, base), fill=coat)
        head = (x - height / 8, base - 1.2 * height, x + height / 8, base - 0.95 * height)
        draw.ellipse(head, fill=_random_color(rng, 90, 230))


def _camera_corners(size: int, rng: random.Random) -> tuple[float, ...]:
    """Corners of the camera's view of the scene (upper left, lower left, lower right, upper right): a jittered crop of
    60–85 % of its side.
    """
    side = size * rng.uniform(0.6, 0.85)
    left, top = rng.uniform(0, size - side), (size - side) * rng.uniform(0.5, 1)
    square = [(left, top), (left, top + side), (left + side, top + side), (left + side, top)]
    shift = 0.04 * size
    return tuple(min(max(value + rng.uniform(-shift, shift), 0), size - 1) for corner in square for value in corner)


def _random_color(rng: random.Random, low: int, high: int) -> _RGB:
    return rng.randint(low, high), rng.randint(low, high), rng.randint(low, high)


def _jitter_color(color: _RGB, rng: random.Random, spread: int = 14) -> _RGB:
    red, green, blue = (min(max(value + rng.randint(-spread, spread), 0), 255) for value in color)
    return red, green, blue
