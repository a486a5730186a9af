"""``featlift index``, ``featlift search``: find pictures by a picture, also by a tiny one."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from featlift.checkpoints import load
from featlift.data.landmarks import pictures, read_picture
from featlift.experiments.retrieval_evaluation import GENERATOR
from featlift.gallery import Encoding, describer
from featlift.report.contact_sheet import sheet, write_contact_sheet
from featlift.retrieval.cache import fingerprint
from featlift.retrieval.descriptors import Describer, describe, seen_at
from featlift.retrieval.exact_search import Found
from featlift.retrieval.exact_search import search as exact
from featlift.retrieval.faiss_index import ApproximateIndex
from featlift.retrieval.generator import lifted
from featlift.retrieval.vector_store import VectorStore, replace


def index(
    folder: str, out: str = "index", encoding: Encoding | None = None, kind: str = "", piece: int = 256
) -> VectorStore:
    """Describe every picture under ``folder`` that ``out`` does not hold yet, and forget those that are gone.

    Each piece is on disk before the next is begun: an interrupted call goes on where it stopped.

    Args:
        folder: pictures; their paths in it are their names.
        out: the index's folder.
        encoding: the describer; an index that is there keeps its own.
        kind: also build a FAISS index of this kind: "flat", "ivf-flat", "ivf-pq", "ivf-rabitq", "hnsw".
        piece: pictures described before anything is written.
    """
    chosen = encoding_of(Path(out), encoding)
    F, dimension = describer(chosen)
    store = VectorStore(Path(out), dimension, about=fingerprint(F))
    replace(Path(out) / "encoding.json", json.dumps({**asdict(chosen), "folder": str(Path(folder).resolve())}).encode())
    files = {str(file.relative_to(folder)): file for file in pictures(Path(folder))}
    store.remove([name for name in store.names if name in store and name not in files])
    new = [name for name in files if name not in store]
    for start in range(0, len(new), piece):
        part = new[start : start + piece]
        store.add(part, describe(F, (seen_at(read_picture(files[name]), 1, F.size) for name in part)))
    if kind:
        ApproximateIndex(store, kind).build()
    print(f"{out}: {len(store)} pictures, {len(new)} of them new")
    return store


def encoding_of(out: Path, encoding: Encoding | None) -> Encoding:
    """The encoding that an index was made with, or ``encoding`` for a new one ("gist" where none is given).

    Raises:
        ValueError: if the index is there and was made with another.
    """
    file = out / "encoding.json"
    if not file.exists():
        return encoding or Encoding("gist", size=128)
    known = json.loads(file.read_text())
    known.pop("folder")
    statistics = known["statistics"] and tuple(known["statistics"])
    there = Encoding(**{**known, "statistics": statistics})
    if encoding not in (None, there):
        raise ValueError(
            f"{out} was made with {there}, not with {encoding}; leave the encoding out, or take another folder."
        )
    return there


def search(
    index: str, queries: list[str], lift: str = "", k: int = 8, kind: str = "", out: str = ""
) -> dict[str, Found]:
    """The ``k`` pictures of an index nearest to each query, plainly and, with ``lift``, after lifting the queries.

    Args:
        index: folder that :func:`index` made.
        queries: picture files.
        lift: run of FSR-GAN, or the file of a generator. Ratios are taken from the pictures' own size: how many times
            their short side is smaller than the encoder's input.
        k: how many.
        kind: search in the FAISS index of this kind; exactly if empty.
        out: contact sheet; ``contact_sheet.html`` in the index if empty.

    Raises:
        FileNotFoundError: if there is no such index, generator or query.
    """
    folder, files = Path(index), [Path(query) for query in queries]
    if not (folder / "encoding.json").exists():
        raise FileNotFoundError(
            f"{folder} is no index: it has no encoding.json. Make one: featlift index FOLDER {folder}"
        )
    F, dimension = describer(encoding_of(folder, None))
    store = VectorStore(folder, dimension, about=fingerprint(F))
    raw, ratio = described(F, files)
    asked = {"raw": raw}
    if lift:
        asked["lifted"] = lifted(load(generator_file(lift)).eval(), raw, ratio)
    found = {name: searched(store, vectors, k, kind) for name, vectors in asked.items()}
    page = Path(out) if out else folder / "contact_sheet.html"
    gallery = Path(json.loads((folder / "encoding.json").read_text())["folder"])
    sheets = [_sheet(files, q, found, gallery) for q in range(len(files))]
    note = "Green: found only after lifting the query. Red: found only before." if lift else ""
    write_contact_sheet(page, sheets, f"{len(files)} searches in {folder.name}", note)
    for q, file in enumerate(files):
        print(f"{file}: " + " | ".join(f"{name}: {', '.join(f.names[q][:3])}" for name, f in found.items()))
    print(page)
    return found


def described(F: Describer, files: Sequence[Path]) -> tuple[torch.Tensor, torch.Tensor]:
    """Descriptors ``[Q, D]`` of the pictures as they are, and how many times smaller than F's input each is, ``[Q]`` ≥
    1.
    """
    images = [read_picture(file) for file in files]
    ratio = torch.tensor([max(1.0, F.size / min(image.shape[1:])) for image in images])
    return describe(F, (seen_at(image, 1, F.size) for image in images)), ratio


def generator_file(lift: str) -> Path:
    """``lift`` itself, or the generator in the run ``lift``.

    Raises:
        FileNotFoundError: if it is neither.
    """
    for file in (Path(lift), Path(lift) / GENERATOR):
        if file.is_file():
            return file
    raise FileNotFoundError(
        f"'{lift}' is no generator's file and no run that has finished: featlift train fsr-gan makes one."
    )


def searched(store: VectorStore, queries: torch.Tensor, k: int, kind: str) -> Found:
    """Exact search, or by the FAISS index of ``kind``."""
    return ApproximateIndex(store, kind).search(queries, k) if kind else exact(store, queries, k)


def _sheet(files: Sequence[Path], q: int, found: dict[str, Found], gallery: Path):
    rankings = {
        n: [(gallery / name, s) for name, s in zip(f.names[q], f.scores[q].tolist(), strict=True)]
        for n, f in found.items()
    }
    return sheet(files[q], rankings)
