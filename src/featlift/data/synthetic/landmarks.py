"""Places that do not exist: a small landmark collection, drawn when asked for, so that image search can be tried
without a download.

A *place* is a street of houses with its own colours, windows, roofs and signs; a *view* is one photograph of it: from
nearer or further, a little from the side, darker or lighter, with passers-by. Everything follows from (seed, place,
view).
"""

import random
from pathlib import Path

from PIL import Image, ImageDraw, ImageEnhance

Colour = tuple[int, int, int]

WALLS = ((176, 150, 126), (158, 92, 76), (196, 182, 160), (142, 142, 146), (188, 164, 110), (128, 118, 104))
ROOFS = ((92, 70, 62), (70, 74, 84), (120, 66, 52))
"""Few and muted: every street has them, so a place is known by its windows, roofs and signs, which a small picture
loses first.
"""


def write_places(
    folder: Path, places: int = 40, views: int = 8, queries: int = 2, size: int = 192, seed: int = 0
) -> None:
    """Writes ``folder/gallery/<place>/<view>.png`` and ``folder/query/<place>/<view>.png``, square pictures of ``size``
    pixels.

    The form that :func:`featlift.data.landmarks.by_class` reads. Pictures that are already there are kept, so an
    interrupted call goes on.
    """
    for place in range(places):
        for view in range(views + queries):
            part = "gallery" if view < views else "query"
            file = Path(folder) / part / f"place-{place:03d}" / f"{view:02d}.png"
            if not file.exists():
                file.parent.mkdir(parents=True, exist_ok=True)
                half = file.with_suffix(".part")
                draw_view(place, view, size, seed).save(half, format="png")
                half.rename(file)


def draw_view(place: int, view: int, size: int = 192, seed: int = 0) -> Image.Image:
    """One RGB photograph, ``size`` × ``size``, of a place."""
    luck = random.Random(f"{seed}/{place}/{view}")
    scene = draw_place(place, 3 * size, seed)
    _passers_by(scene, luck)
    photo = scene.transform(
        (2 * size, 2 * size), Image.Transform.QUAD, _corners(3 * size, luck), Image.Resampling.BICUBIC
    )
    photo = ImageEnhance.Brightness(photo).enhance(luck.uniform(0.65, 1.3))
    photo = ImageEnhance.Color(photo).enhance(luck.uniform(0.6, 1.2))
    return photo.resize((size, size), Image.Resampling.LANCZOS)


def draw_place(place: int, size: int, seed: int = 0) -> Image.Image:
    """The place itself, seen squarely, RGB ``size`` × ``size``."""
    luck = random.Random(f"{seed}/{place}")
    scene = Image.new("RGB", (size, size), _near((190, 206, 222), luck))
    draw = ImageDraw.Draw(scene)
    ground = int(size * luck.uniform(0.78, 0.88))
    draw.rectangle((0, ground, size, size), fill=_near((104, 100, 96), luck))
    left = -int(size * luck.uniform(0, 0.1))
    while left < size:
        width = int(size * luck.uniform(0.16, 0.34))
        _house(draw, (left, int(ground - size * luck.uniform(0.25, 0.6)), left + width, ground), luck)
        left += width
    return scene


def _house(draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], luck: random.Random) -> None:
    draw.rectangle(box, fill=_near(luck.choice(WALLS), luck))
    _roof(draw, box, _near(luck.choice(ROOFS), luck), luck)
    _windows(draw, box, _near(luck.choice(((58, 66, 80), (222, 214, 196))), luck), luck)
    if luck.random() < 0.6:
        _sign(draw, box, luck)


def _roof(draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], colour: Colour, luck: random.Random) -> None:
    left, top, right, _ = box
    high = int((right - left) * luck.uniform(0.2, 0.6))
    kind = luck.choice(("flat", "gable", "dome", "spire"))
    if kind == "flat":
        draw.rectangle((left, top - high // 6, right, top), fill=colour)
    elif kind == "dome":
        draw.pieslice((left, top - high, right, top + high), 180, 360, fill=colour)
    else:
        peak = top - high * (2 if kind == "spire" else 1)
        draw.polygon([(left, top), ((left + right) // 2, peak), (right, top)], fill=colour)


def _windows(draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], colour: Colour, luck: random.Random) -> None:
    left, top, right, bottom = box
    columns, rows = luck.randint(2, 6), luck.randint(3, 9)
    across, down = (right - left) / columns, (bottom - top) / rows
    wide, tall, arched = luck.uniform(0.3, 0.7), luck.uniform(0.4, 0.75), luck.random() < 0.4
    for row in range(rows):
        for column in range(columns):
            x, y = left + (column + 0.5 - wide / 2) * across, top + (row + 0.5 - tall / 2) * down
            shape = (x, y, x + wide * across, y + tall * down)
            draw.ellipse(shape, fill=colour) if arched else draw.rectangle(shape, fill=colour)


def _sign(draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], luck: random.Random) -> None:
    left, top, right, bottom = box
    middle, y = (left + right) / 2, top + (bottom - top) * luck.uniform(0.1, 0.8)
    reach = (right - left) * luck.uniform(0.15, 0.4)
    outer, inner = _colour(luck, 0, 255), _colour(luck, 0, 255)
    frame = (middle - reach, y - reach, middle + reach, y + reach)
    core = (middle - reach / 2, y - reach / 2, middle + reach / 2, y + reach / 2)
    if luck.random() < 0.5:
        draw.ellipse(frame, fill=outer)
        draw.rectangle(core, fill=inner)
    else:
        draw.rectangle(frame, fill=outer)
        draw.ellipse(core, fill=inner)


def _passers_by(scene: Image.Image, luck: random.Random) -> None:
    draw, size = ImageDraw.Draw(scene), scene.width
    for _ in range(luck.randint(2, 6)):
        x, tall = luck.uniform(0, size), size * luck.uniform(0.08, 0.22)
        base, coat = size * luck.uniform(0.85, 1), _colour(luck, 0, 200)
        draw.ellipse((x - tall / 5, base - tall, x + tall / 5, base), fill=coat)
        draw.ellipse((x - tall / 8, base - 1.2 * tall, x + tall / 8, base - 0.95 * tall), fill=_colour(luck, 90, 230))


def _corners(size: int, luck: random.Random) -> tuple[float, ...]:
    """What the camera sees of the scene: a crop of 60–85 %, its corners moved a little (upper left, lower left, lower
    right, upper right).
    """
    side = size * luck.uniform(0.6, 0.85)
    left, top = luck.uniform(0, size - side), (size - side) * luck.uniform(0.5, 1)
    square = [(left, top), (left, top + side), (left + side, top + side), (left + side, top)]
    shift = 0.04 * size
    return tuple(min(max(value + luck.uniform(-shift, shift), 0), size - 1) for corner in square for value in corner)


def _colour(luck: random.Random, low: int, high: int) -> Colour:
    return luck.randint(low, high), luck.randint(low, high), luck.randint(low, high)


def _near(colour: Colour, luck: random.Random, apart: int = 14) -> Colour:
    red, green, blue = (min(max(value + luck.randint(-apart, apart), 0), 255) for value in colour)
    return red, green, blue
