"""The files of a prediction, written while it runs: memory does not grow with the number of images."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from featlift.data.image_io import WRITTEN_FILE
from featlift.evaluation.coco_files import RESULT_KEYS, to_annotations
from featlift.evaluation.coco_metrics import Detection


class PredictionFiles:
    """Writer of ``results.json``, the list of COCO results, and ``predictions.json``, a full COCO file, into ``folder``; a context.

    Both appear when the context ends, also after an interruption. Files of an earlier prediction in ``folder`` are removed: those that
    its list `WRITTEN_FILE` names, and nothing else.
    """

    def __init__(self, folder: Path, categories: Sequence[Mapping[str, Any]]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.num_images, self.num_detections = folder, 0, 0
        self._categories = list(categories)
        _remove_written(folder)
        self._lists = {
            name: _ListFile(folder / f".{name}.{os.getpid()}")
            for name in ("images", "annotations", "results", "skipped")
        }

    def __enter__(self) -> "PredictionFiles":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for part in self._lists.values():
            part.close()
        self._join()
        for part in self._lists.values():
            part.path.unlink(missing_ok=True)

    def add_image(self, name: str, size: tuple[int, int], detections: Sequence[Detection], **other: Any) -> None:
        """Add the image ``name`` of ``size`` (height, width), whose id is the next number, and its ``detections``."""
        self.num_images += 1
        image = {"id": self.num_images, "file_name": name, "height": size[0], "width": size[1]}
        self._lists["images"].write([image | other])
        annotations = to_annotations(detections)
        for annotation in annotations:
            self.num_detections += 1
            annotation["id"] = self.num_detections
        self._lists["annotations"].write(annotations)
        self._lists["results"].write([{key: d[key] for key in RESULT_KEYS if key in d} for d in detections])

    def add_skipped(self, name: str, reason: str) -> None:
        """Record an image that cannot be read."""
        self._lists["skipped"].write([{"file": name, "reason": reason}])

    def add_file(self, path: Path) -> Path:
        """Record a file that is written into the folder, so that the next prediction does not read it; returns ``path``."""
        with open(self.folder / WRITTEN_FILE, "ab") as file:
            file.write(os.fsencode(path.relative_to(self.folder)) + b"\n")
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _join(self) -> None:
        parts = {name: self._lists[name].path for name in ("images", "annotations", "skipped")}
        target = self.folder / f".predictions.{os.getpid()}"
        with open(target, "wb") as file:
            file.write(b'{"categories": ' + json.dumps(self._categories).encode())
            for name, path in parts.items():
                file.write(f',\n"{name}": '.encode())
                with open(path, "rb") as part:
                    while block := part.read(1 << 20):
                        file.write(block)
            file.write(b"}\n")
        target.replace(self.add_file(self.folder / "predictions.json"))
        self._lists["results"].path.replace(self.add_file(self.folder / "results.json"))


class _ListFile:
    """A JSON list that is written item by item; names that are not UTF-8 are escaped."""

    def __init__(self, path: Path) -> None:
        self.path, self._is_empty = path, True
        self._file = open(path, "w", encoding="ascii")  # noqa: SIM115
        self._file.write("[")

    def write(self, items: Iterable[Any]) -> None:
        for item in items:
            self._file.write(("\n" if self._is_empty else ",\n") + json.dumps(item))
            self._is_empty = False

    def close(self) -> None:
        self._file.write("]")
        self._file.close()


def _remove_written(folder: Path) -> None:
    listed = folder / WRITTEN_FILE
    names = listed.read_bytes().splitlines() if listed.is_file() else []
    for path in (folder / os.fsdecode(name) for name in names):
        if path.resolve().is_relative_to(folder.resolve()):
            path.unlink(missing_ok=True)
    listed.unlink(missing_ok=True)
