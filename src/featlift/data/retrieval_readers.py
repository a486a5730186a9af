"""Image retrieval collections: Oxford5k, Paris6k, both revisited, Holidays, Flickr100k, and class folders.

Each is read as a :class:`RetrievalCollection`: the database images, and queries with their ground truth as rows of
``database``. Boxes are ``(x1, y1, x2, y2)`` in pixels of the query image. Nothing is downloaded.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from featlift.checkpoints.array_pickle import ArrayUnpickler
from featlift.data.image_io import CropBox, list_images
from featlift.registry import check_choice

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
"""Stems of the 20 corrupt files of Paris6k, as listed by its authors; 6,392 of 6,412 images remain."""


@dataclass(frozen=True)
class RetrievalQuery:
    """Query: an image (or the ``box`` in it), its positive database rows and the junk rows, which are ignored."""

    image_path: Path
    positives: frozenset[int]
    junk: frozenset[int] = frozenset()
    box: CropBox | None = None


@dataclass(frozen=True)
class RetrievalCollection:
    """Database images and queries."""

    database: list[Path]
    queries: list[RetrievalQuery]


def load_oxford5k(image_folder: Path, ground_truth: Path) -> RetrievalCollection:
    """Oxford5k (Philbin et al., CVPR 2007): 55 queries with boxes; "good" and "ok" are positives, "junk" is ignored.

    The query's own image stays in the database, as in the official protocol.

    Args:
        image_folder: Folder of the images.
        ground_truth: Folder with ``<landmark>_<k>_{query,good,ok,junk}.txt``.

    Raises:
        FileNotFoundError: If there are no images or no query files, or the ground truth names a missing image.
    """
    return _load_buildings(list_images(image_folder), Path(ground_truth), prefix="oxc1_")


def load_paris6k(image_folder: Path, ground_truth: Path) -> RetrievalCollection:
    """Paris6k (Philbin et al., CVPR 2008), read as :func:`load_oxford5k`, without the :data:`PARIS_CORRUPT` files."""
    return _load_buildings(
        [file for file in list_images(image_folder) if file.stem not in PARIS_CORRUPT],
        Path(ground_truth),
        prefix="",
    )


def _load_buildings(database: list[Path], ground_truth: Path, prefix: str) -> RetrievalCollection:
    rows = {file.stem: row for row, file in enumerate(database)}
    files = sorted(ground_truth.glob("*_query.txt"))
    if not files:
        raise FileNotFoundError(
            f"No '<landmark>_<k>_query.txt' in {ground_truth}; give the folder of the official ground-truth archive."
        )

    def read_rows(query: Path, kind: str) -> frozenset[int]:
        names = query.with_name(query.name.replace("_query.txt", f"_{kind}.txt")).read_text().split()
        return frozenset(_database_row(rows, name, query) for name in names if name not in PARIS_CORRUPT)

    queries = []
    for file in files:
        name, *box = file.read_text().split()
        image_path = database[_database_row(rows, name.removeprefix(prefix), file)]
        x1, y1, x2, y2 = map(float, box)
        positives, junk = read_rows(file, "good") | read_rows(file, "ok"), read_rows(file, "junk")
        queries.append(RetrievalQuery(image_path, positives, junk, (x1, y1, x2, y2)))
    return RetrievalCollection(database, queries)


def _database_row(rows: dict[str, int], name: str, source: Path) -> int:
    if name not in rows:
        raise FileNotFoundError(
            f"{source.name} names '{name}', which is not among the {len(rows)} images of the database."
        )
    return rows[name]


def load_revisited(image_folder: Path, ground_truth: Path, difficulty: str = "medium") -> RetrievalCollection:
    """ROxford and RParis (Radenović et al., CVPR 2018): queries are cropped and not in the database; queries without
    positives are dropped.

    | difficulty | positives | ignored |
    |---|---|---|
    | easy | easy | junk, hard |
    | medium | easy, hard | junk |
    | hard | hard | junk, easy |

    Args:
        image_folder: Folder of the images of Oxford5k or Paris6k.
        ground_truth: ``gnd_roxford5k.pkl`` or ``gnd_rparis6k.pkl``; only plain data and NumPy arrays are unpickled.
        difficulty: "easy", "medium" or "hard".

    Raises:
        ValueError: If the difficulty is unknown.
        pickle.UnpicklingError: if the ground truth contains anything else.
        FileNotFoundError: If an image is missing.
    """
    kinds = {
        "easy": (("easy",), ("junk", "hard")),
        "medium": (("easy", "hard"), ("junk",)),
        "hard": (("hard",), ("junk", "easy")),
    }
    check_choice(difficulty, kinds, "difficulty")
    positive_kinds, junk_kinds = kinds[difficulty]
    with Path(ground_truth).open("rb") as file:
        record = ArrayUnpickler(file).load()
    images = list_images(image_folder)
    rows = {file.stem: row for row, file in enumerate(images)}
    queries = []
    for name, entry in zip(record["qimlist"], record["gnd"], strict=True):
        positives, junk = _collect_rows(entry, positive_kinds), _collect_rows(entry, junk_kinds)
        x1, y1, x2, y2 = (float(value) for value in entry["bbx"])
        if positives:
            queries.append(
                RetrievalQuery(images[_database_row(rows, name, Path(ground_truth))], positives, junk, (x1, y1, x2, y2))
            )
    return RetrievalCollection(
        [images[_database_row(rows, name, Path(ground_truth))] for name in record["imlist"]], queries
    )


def _collect_rows(entry: dict[str, Iterable[int]], kinds: Sequence[str]) -> frozenset[int]:
    return frozenset(int(row) for kind in kinds for row in entry[kind])


def load_holidays(image_folder: Path) -> RetrievalCollection:
    """INRIA Holidays (Jégou et al., ECCV 2008): 500 queries with 991 positives.

    Files with numbers divisible by 100 are queries, the others of their hundred are positives; the query itself is
    ignored. Images are only rotated by their EXIF orientation. Manually "upright" copies exist: report which is used.
    """
    database = list_images(image_folder)
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
    """Class folders: ``gallery/<class>/*`` is the database; the positives of ``query/<class>/*`` are the gallery images
    of its class.

    Without ``query_folder`` every gallery image is a query for the others of its class and ignores itself; the only image
    of a class is not a query.

    Raises:
        FileNotFoundError: If there are no images, or the gallery lacks the class of a query.
    """
    database = list_images(gallery_folder)
    classes: dict[str, set[int]] = {}
    for row, file in enumerate(database):
        classes.setdefault(file.parent.name, set()).add(row)
    if query_folder is None:
        queries = [
            RetrievalQuery(f, frozenset(classes[f.parent.name] - {row}), frozenset({row}))
            for row, f in enumerate(database)
        ]
        return RetrievalCollection(database, [q for q in queries if q.positives])
    files = list_images(query_folder)
    unknown = sorted({file.parent.name for file in files} - set(classes))
    if unknown:
        raise FileNotFoundError(f"The gallery has no folder for the query classes {', '.join(unknown)}.")
    return RetrievalCollection(database, [RetrievalQuery(file, frozenset(classes[file.parent.name])) for file in files])
