"""``featlift evaluate``: AP and AR of a detector on pictures; of a descriptor generator, what is found."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featlift.commands.train import summary
from featlift.data.fingerprint import fingerprint
from featlift.data.tt100k import TT100KPictures
from featlift.detectors.multi_scale import MultiScale
from featlift.evaluation import detection
from featlift.experiments import super_resolution_detection, tt100k_evaluation
from featlift.experiments.retrieval_evaluation import GENERATOR, curves
from featlift.papers import baseline
from featlift.training.run import write_json


@dataclass(frozen=True)
class Looking:
    """How a detector looks at the pictures.

    Attributes:
        batch: pictures at a time.
        device: "cpu", "cuda", ….
        scales: factors of the test size at which each picture is looked at; several are merged (multi-scale test).
        flip: look at the mirrored picture, too.
        merge: of what several looks found: "nms" or "soft-nms".
    """

    batch: int = 4
    device: str = "cpu"
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    merge: str = "nms"

    @property
    def many(self) -> bool:
        """Whether it looks more than once, or at another size."""
        return self.flip or self.scales != (1.0,)


def evaluate(
    run: str,
    data: str = "",
    split: str = "val",
    out: str = "",
    through: dict[str, str] | None = None,
    factor: int = 4,
    factors: tuple[int, ...] = (),
    looking: Looking = Looking(),
) -> dict[str, Any]:
    """COCO AP and AR, also for tiny objects (< 16²), of a run's detector; of a run of FSR-GAN, :func:`featlift.experiments.retrieval_evaluation.curves`.

    Args:
        run: a run folder or a detector file.
        data: a COCO folder, TT100K's folder (then its own tool's numbers are told, too), or "scenes"; empty takes what the run was
            trained on.
        split: "val" (TT100K's "test") or "train".
        out: where to write metrics and detections (json; of TT100K accuracy-recall curves beside it); by default beside the detector.
        through: super-resolution networks by name, ``--through.fdsr runs/fdsr``: pictures are shrunk, enlarged by each, by bicubic
            interpolation and not at all, and shown to the detector (FDSR, Sec. 3). ``out`` is then a folder.
        factor: how much smaller a side becomes for ``through``.
        factors: further ones, for a picture of AP against them (``robustness.png``); each costs as much as the first.
        looking: batch, device and multi-scale test.
    """
    if (Path(run) / GENERATOR).exists():
        return curves(Path(run), data, Path(out) if out else None)
    if through:
        return _through(
            super_resolution_detection.Measuring(
                run, through, "", data, split, factor, factors=factors, device=looking.device
            ),
            Path(out or f"{run}/through"),
        )
    detector, classes = baseline.load(run)
    shown = baseline.pictures(baseline.data_of(run, data), split)
    if list(shown.classes) != classes:
        raise ValueError(f"The detector knows {', '.join(classes)}; these pictures have {', '.join(shown.classes)}.")
    seeing = MultiScale(detector, looking.scales, looking.flip, looking.merge) if looking.many else detector
    measured = detection.evaluate(seeing, shown, looking.batch, looking.device)
    folder = Path(run) if Path(run).is_dir() else Path(run).parent
    ending = "-multi-scale" if looking.many else ""
    path = Path(out) if out else folder / f"evaluation-{Path(data or 'own').name}-{split}{ending}.json"
    found = {"data": fingerprint(shown), "metrics": measured.metrics, "detections": measured.detections}
    print(summary(Path(run).name, measured))
    if isinstance(shown, TT100KPictures):
        found["signs"] = tt100k_evaluation.measured(seeing, shown, measured, looking.batch, looking.device)
        print(tt100k_evaluation.told(found["signs"]))
        print(tt100k_evaluation.drawn(found["signs"], path.with_name(f"{path.stem}-accuracy-recall.png")))
    write_json(path, found)
    print(path)
    return found["metrics"]


def _through(how: super_resolution_detection.Measuring, folder: Path) -> dict[str, Any]:
    found = super_resolution_detection.measure(how, folder)
    print(super_resolution_detection.table(found["rows"]))
    print(folder)
    return found
