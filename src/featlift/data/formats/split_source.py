"""What the reader of an annotation format returns: a split as a COCO document."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from featlift.data.image_io import ImageReadError, ImageSize, read_image_sizes
from featlift.data.problems import LEFT_OUT, SKIPPED, DataProblem, Effect

Box = tuple[float, float, float, float]
"""Left, top, right and bottom edge, in pixels."""
BACKSLASH_NOTE = "file names have the backslashes of Windows (\\); they are read as separators of folders (/)"


@dataclass
class SplitSource:
    """A split of a dataset in any format, as a COCO document.

    Attributes:
        layout: Name of the format, such as "yolo".
        file: File or folder from which the annotations were read; problems name it.
        image_folder: Folder to which the document's ``file_name`` are relative.
        document: COCO document: images, annotations, categories. An annotation may have the key ``source``, the file and line it was
            read from. None if ``file`` is a COCO JSON file.
        problems: Entries that cannot be read.
        files: Image files that are not in ``image_folder``, by ``file_name``: objects with ``is_file()`` and ``open("rb")``.
        notes: Lines for the report on what the format has and FeatLift does not use.
    """

    layout: str
    file: Path
    image_folder: Path
    document: dict[str, Any] | None = None
    problems: list[DataProblem] = field(default_factory=list)
    files: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def find_image(self, name: str) -> Any:
        """File of the image ``name``; if it was written on Windows, its backslashes are read as ``/``, which is noted."""
        path = self.files.get(name, self.image_folder / name)
        if "\\" not in name or path.is_file() or not (slashed := self.image_folder / name.replace("\\", "/")).is_file():
            return path
        if BACKSLASH_NOTE not in self.notes:
            self.notes.append(BACKSLASH_NOTE)
        return slashed


class DocumentBuilder:
    """Builds the COCO document of a split, image by image, object by object.

    Args:
        layout: Name of the format.
        file: File or folder of the annotations, named in problems.
        image_folder: Folder to which image names are relative.
        classes: Class names; an object's category id is ``first_id`` plus the index of its class.
        first_id: Category id of the first class: that of the format, or 1.
    """

    def __init__(self, layout: str, file: Path, image_folder: Path, classes: Sequence[str], first_id: int = 1) -> None:
        self.classes, self._first_id = list(classes), first_id
        categories = [{"id": first_id + index, "name": name} for index, name in enumerate(self.classes)]
        self.document: dict[str, Any] = {"images": [], "annotations": [], "categories": categories}
        self.source = SplitSource(layout, file, image_folder, self.document)
        self._unusable: set[int] = set()

    def add_image(self, path: Path, size: ImageSize | None = None) -> dict[str, Any] | None:
        """Add the image file ``path`` of ``size`` (height, width; default: read from its header, upright) and return its entry; None
        if it cannot be read, which is recorded as a problem.
        """
        name = relative_name(path, self.source.image_folder)
        if size is None:
            try:
                size = read_image_sizes(path, sys.maxsize)[0]  # the reader of the document checks the limit
            except ImageReadError as error:
                kind = "broken image" if path.is_file() else "missing image"
                return self.add_problem(name, kind, str(error) if path.is_file() else f"there is no file {path}")
        entry = {"id": len(self.document["images"]) + 1, "file_name": name, "height": size[0], "width": size[1]}
        self.document["images"].append(entry)
        return entry

    def add_object(
        self,
        image: dict[str, Any],
        label: int,
        box: Box | None = None,
        segmentation: Any = None,
        location: str = "",
        ignore: bool = False,
        area: Any = None,
    ) -> None:
        """Add an object of class index ``label`` (from 0) to ``image``.

        Args:
            image: Entry of `add_image`.
            label: Index of the class in ``classes``.
            box: Box in pixels; default: that of the polygons.
            segmentation: Polygons ``[[x1, y1, …], …]`` or run lengths; None without a mask.
            location: File and line of the annotation.
            ignore: Whether it is excluded from training and evaluation, such as VOC's difficult objects.
            area: Annotated area in px², which is compared with that of mask or box; None without.
        """
        left, top, right, bottom = box or polygons_box(segmentation)
        annotation = {
            "id": len(self.document["annotations"]) + 1,
            "image_id": image["id"],
            "category_id": self._first_id + label,
            "bbox": [left, top, right - left, bottom - top],
            "iscrowd": int(ignore),
            "source": location,
        }
        if segmentation:
            annotation["segmentation"] = segmentation
        if area is not None:
            annotation["area"] = area
        self.document["annotations"].append(annotation)

    def add_problem(self, location: str, kind: str, message: str, effect: Effect = SKIPPED) -> None:
        """Record an entry that cannot be read, and what becomes of it with ``skip_broken``."""
        self.source.problems.append(DataProblem(self.source.file, location, kind, message, effect))

    def add_broken_object(self, image: dict[str, Any], location: str, kind: str, message: str) -> None:
        """Record an object of ``image`` that cannot be read. Its region is unknown, so the image is left out with ``skip_broken``: it
        would teach that the object is background.
        """
        self.add_problem(location, kind, message, LEFT_OUT)
        self._unusable.add(image["id"])

    def build(self) -> SplitSource:
        """Return the split, without the images of broken objects."""
        for name, key in (("images", "id"), ("annotations", "image_id")):
            self.document[name] = [entry for entry in self.document[name] if entry[key] not in self._unusable]
        return self.source


def relative_name(path: Path, folder: Path) -> str:
    """``path`` relative to ``folder`` with ``/``; the whole path if it is elsewhere."""
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)


def polygons_box(polygons: Sequence[Sequence[float]]) -> Box:
    """Box around ``polygons`` ``[[x1, y1, x2, y2, …], …]``."""
    xs = [x for polygon in polygons for x in polygon[0::2]]
    ys = [y for polygon in polygons for y in polygon[1::2]]
    return min(xs), min(ys), max(xs), max(ys)
