"""Collections to search in: Oxford5k, Paris6k, both revisited, Holidays, Flickr100k, and folders by class.

Each is read into one form, :class:`RetrievalCollection`: the pictures of the database, and queries that know which of its rows
are right. Nothing is downloaded. Positions are rows of ``database``; boxes are ``(x1, y1, x2, y2)`` in pixels of the
query's picture.
"""

import pickle
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image, ImageOps
from torch import Tensor

CropBox = tuple[float, float, float, float]

LANDMARK_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")

PARIS_CORRUPT = frozenset(
    f"paris_{name}_{number:06d}"
    for name, numbers in {
        "louvre": (136, 146),
        "moulinrouge": (422,),
        "museedorsay": (1059,),
        "notredame": (188,),
        "pantheon": (284, 960, 974),
        "pompidou": (195, 196, 201, 467, 640),
        "sacrecoeur": (299, 330, 353),
        "triomphe": (662, 833, 863, 867),
    }.items()
    for number in numbers
)
"""The 20 files of Paris6k that hold no picture, as its authors list them; 6,392 of 6,412 remain."""


@dataclass(frozen=True)
class RetrievalQuery:
    """One question: a picture (or the ``box`` in it), the rows it should find and the rows that do not count."""

    image_path: Path
    positives: frozenset[int]
    junk: frozenset[int] = frozenset()
    box: CropBox | None = None


@dataclass(frozen=True)
class RetrievalCollection:
    """A database of pictures and the queries put to it."""

    database: list[Path]
    queries: list[RetrievalQuery]


def load_oxford5k(image_folder: Path, ground_truth: Path) -> RetrievalCollection:
    """Oxford5k (Philbin et al., CVPR 2007): 55 queries with boxes; right are "good" and "ok", "junk" does not count.

    The query's own picture stays in the database, as in the official protocol.

    Args:
        image_folder: folder with the pictures.
        ground_truth: folder with ``<landmark>_<k>_{query,good,ok,junk}.txt``.

    Raises:
        FileNotFoundError: if there are no pictures or no query files, or the truth names a picture that is not there.
    """
    return _load_buildings(list_collection_images(image_folder), Path(ground_truth), prefix="oxc1_")


def load_paris6k(image_folder: Path, ground_truth: Path) -> RetrievalCollection:
    """Paris6k (Philbin et al., CVPR 2008), read as :func:`load_oxford5k`, without the :data:`PARIS_CORRUPT` files."""
    return _load_buildings(
        [file for file in list_collection_images(image_folder) if file.stem not in PARIS_CORRUPT],
        Path(ground_truth),
        prefix="",
    )


def _load_buildings(database: list[Path], ground_truth: Path, prefix: str) -> RetrievalCollection:
    rows = {file.stem: row for row, file in enumerate(database)}
    files = sorted(ground_truth.glob("*_query.txt"))
    if not files:
        raise FileNotFoundError(
            f"No '<landmark>_<k>_query.txt' in {ground_truth}; this is the folder of the official ground-truth archive."
        )

    def listed(query: Path, kind: str) -> frozenset[int]:
        names = query.with_name(query.name.replace("_query.txt", f"_{kind}.txt")).read_text().split()
        return frozenset(_database_row(rows, name, query) for name in names if name not in PARIS_CORRUPT)

    queries = []
    for file in files:
        name, *box = file.read_text().split()
        picture = database[_database_row(rows, name.removeprefix(prefix), file)]
        x1, y1, x2, y2 = map(float, box)
        queries.append(
            RetrievalQuery(picture, listed(file, "good") | listed(file, "ok"), listed(file, "junk"), (x1, y1, x2, y2))
        )
    return RetrievalCollection(database, queries)


def _database_row(rows: dict[str, int], name: str, source: Path) -> int:
    if name not in rows:
        raise FileNotFoundError(
            f"{source.name} names '{name}', which is not among the {len(rows)} pictures of the database."
        )
    return rows[name]


def load_revisited(image_folder: Path, ground_truth: Path, difficulty: str = "medium") -> RetrievalCollection:
    """ROxford and RParis (Radenović et al., CVPR 2018): queries are cropped and not in the database; those without a
    positive are dropped.

    | difficulty | right | do not count |
    |---|---|---|
    | easy | easy | junk, hard |
    | medium | easy, hard | junk |
    | hard | hard | junk, easy |

    Args:
        image_folder: folder with the pictures of Oxford5k or Paris6k.
        ground_truth: ``gnd_roxford5k.pkl`` or ``gnd_rparis6k.pkl``; only plain data and NumPy arrays in it are read, code in
            it is refused.
        difficulty: "easy", "medium" or "hard".

    Raises:
        ValueError: if the difficulty is unknown.
        FileNotFoundError: if a picture is missing.
    """
    kinds = {
        "easy": (("easy",), ("junk", "hard")),
        "medium": (("easy", "hard"), ("junk",)),
        "hard": (("hard",), ("junk", "easy")),
    }
    if difficulty not in kinds:
        raise ValueError(f"Unknown difficulty '{difficulty}'; choose one of {', '.join(kinds)}.")
    right, ignored = kinds[difficulty]
    with Path(ground_truth).open("rb") as file:
        record = _SafeUnpickler(file).load()
    found = {file.stem: file for file in list_collection_images(image_folder)}
    rows = {stem: row for row, stem in enumerate(found)}
    every = list(found.values())
    queries = []
    for name, entry in zip(record["qimlist"], record["gnd"], strict=True):
        positives, junk = _collect_rows(entry, right), _collect_rows(entry, ignored)
        x1, y1, x2, y2 = (float(value) for value in entry["bbx"])
        if positives:
            queries.append(
                RetrievalQuery(every[_database_row(rows, name, Path(ground_truth))], positives, junk, (x1, y1, x2, y2))
            )
    return RetrievalCollection(
        [every[_database_row(rows, name, Path(ground_truth))] for name in record["imlist"]], queries
    )


def _collect_rows(entry: dict[str, Iterable[int]], kinds: Sequence[str]) -> frozenset[int]:
    return frozenset(int(row) for kind in kinds for row in entry[kind])


class _SafeUnpickler(pickle.Unpickler):
    """Unpickles dictionaries, lists, strings, numbers and NumPy arrays; anything else could run code."""

    def find_class(self, module: str, name: str) -> object:
        if module.split(".")[0] == "numpy" and name in {"_reconstruct", "ndarray", "dtype", "scalar"}:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(
            f"The file wants to load {module}.{name}; a ground-truth file holds only lists, numbers and arrays."
        )


def load_holidays(image_folder: Path) -> RetrievalCollection:
    """INRIA Holidays (Jégou et al., ECCV 2008): numbers divisible by 100 ask, the rest of their hundred is right, the
    query itself does not count. 500 queries and 991 positives in the whole set. Pictures are turned by their EXIF mark
    only; there are "upright" copies in use, so say which you have.
    """
    database = list_collection_images(image_folder)
    numbers = [int(file.stem) for file in database]
    groups: dict[int, list[int]] = {}
    for row, number in enumerate(numbers):
        groups.setdefault(number // 100, []).append(row)
    queries = [
        RetrievalQuery(database[row], frozenset(groups[number // 100]) - {row}, frozenset({row}))
        for row, number in enumerate(numbers)
        if number % 100 == 0
    ]
    return RetrievalCollection(database, queries)


def load_class_folders(gallery_folder: Path, query_folder: Path | None = None) -> RetrievalCollection:
    """Folders by class: ``gallery/<class>/*`` is the database, each of ``query/<class>/*`` should find the gallery's
    pictures of its class.

    Without ``query_folder`` every picture of the gallery asks for the others of its class and does not count itself; a picture
    that is alone in its class only stands in the way of the others.

    Raises:
        FileNotFoundError: if there are no pictures, or a query's class is not in the gallery.
    """
    database = list_collection_images(gallery_folder)
    classes: dict[str, set[int]] = {}
    for row, file in enumerate(database):
        classes.setdefault(file.parent.name, set()).add(row)
    if query_folder is None:
        own = [
            RetrievalQuery(f, frozenset(classes[f.parent.name] - {row}), frozenset({row}))
            for row, f in enumerate(database)
        ]
        return RetrievalCollection(database, [q for q in own if q.positives])
    asked = list_collection_images(query_folder)
    unknown = sorted({file.parent.name for file in asked} - set(classes))
    if unknown:
        raise FileNotFoundError(f"The gallery has no folder for the query classes {', '.join(unknown)}.")
    return RetrievalCollection(database, [RetrievalQuery(file, frozenset(classes[file.parent.name])) for file in asked])


def list_collection_images(folder: Path) -> list[Path]:
    """Every picture under ``folder``, sorted; also how Flickr100k, 100,071 distractors, is read.

    Raises:
        FileNotFoundError: if there is none.
    """
    found = sorted(file for file in Path(folder).rglob("*") if file.suffix.lower() in LANDMARK_SUFFIXES)
    if not found:
        raise FileNotFoundError(f"No picture ({', '.join(LANDMARK_SUFFIXES)}) under {folder}.")
    return found


def read_image_crop(path: Path, box: CropBox | None = None) -> Tensor:
    """``[3, H, W]`` in 0…1, upright by its EXIF mark, cut to ``box`` (rounded to whole pixels) if there is one."""
    with Image.open(path) as opened:
        image = ImageOps.exif_transpose(opened).convert("RGB")
    if box is not None:
        left, top, right, bottom = (round(value) for value in box)
        image = image.crop((left, top, right, bottom))
    pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    return pixels.view(image.height, image.width, 3).permute(2, 0, 1).float() / 255


def random_crop_box(file: Path, seed: int = 0) -> CropBox:
    """A window of 70 to 90 % of a picture's sides, the same whenever it is asked for: another view of what it shows."""
    luck, (height, width) = random.Random(seed), read_image_crop(file).shape[1:]
    share = luck.uniform(0.7, 0.9)
    left, top = luck.uniform(0, 1 - share) * width, luck.uniform(0, 1 - share) * height
    return left, top, left + share * width, top + share * height


def split_image_files(files: Sequence[Path], num_train: int, seed: int = 0) -> tuple[list[Path], list[Path]]:
    """``(train, rest)``, drawn at random: the paper's way (Oxford 4,500 / 562, Paris 5,800 / 612).

    Views of one landmark then fall on both sides, and training pictures are database pictures. To train on one city and
    test on the other has neither leak.

    Raises:
        ValueError: if there are not more than ``num_train`` pictures.
    """
    if not 0 < num_train < len(files):
        raise ValueError(f"Cannot train on {num_train} of {len(files)} pictures and keep some for testing.")
    order = random.Random(seed).sample(range(len(files)), len(files))
    return [files[i] for i in sorted(order[:num_train])], [files[i] for i in sorted(order[num_train:])]
