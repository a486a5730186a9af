"""``featlift finer``: EFPN's finer level in a torchvision detector, taught by a folder of pictures without labels, as a delta file."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from featlift.commands.upgrade import answers, named
from featlift.data.augment import Flip, Resize
from featlift.data.batches import Batches
from featlift.data.crops import Window
from featlift.data.dataset import Pictures
from featlift.data.image_folder import Photographs
from featlift.data.synthetic.scenes import Scenes
from featlift.papers import baseline
from featlift.training import Learner, Run, fit
from featlift.upgrading import distillation, save_delta, use_level
from featlift.upgrading import upgrade as upgraded

BATCH, CROP = 2, 512


def finer(
    model: str,
    pictures: str = "",
    transfer: str = "ftt",
    weights: str = "none",
    steps: int = 0,
    rate: float = 3e-4,
    limit: float = 56.0,
    out: str = "finer.safetensors",
) -> Path:
    """Add a pyramid level of stride 2 for small objects, teach it, and write a file that holds only the difference.

    It learns to be, from a picture, what the detector's own finest level is of the picture at twice the size. No labels are needed, and
    nothing else of the detector changes. Without steps it prints what would be added and checks that outputs are the same to the last bit.

    Args:
        model: a Faster or Mask R-CNN of torchvision on a ResNet ("fasterrcnn_resnet50_fpn").
        pictures: the folder to learn from (pictures of any size, boxes are not used), or "scenes".
        transfer: what makes the level: "ftt", "espcn", "authors", … (`featlift list transfers`).
        weights: "none", "DEFAULT" (downloads them) or a file.
        steps: how many steps of two pictures to train.
        rate: of AdamW, a cosine.
        limit: objects below this side in px of the picture as the detector sees it are read from the new level.
        out: the delta file; `featlift.load_delta` puts it onto the same detector again. The training's log is beside it (``….run``).

    Raises:
        ValueError: for a detector that cannot have the level, or steps without pictures.
    """
    if steps and not pictures:
        raise ValueError("There is nothing to learn from: give --pictures FOLDER, or --pictures scenes.")
    detector = named(model, weights)
    picture = torch.rand(3, 256, 320, generator=torch.Generator().manual_seed(0))
    before = answers(detector, picture)
    print(upgraded(detector, transfer, level="p2x"))
    same = all(torch.equal(x, y) for x, y in zip(before, answers(detector, picture), strict=True))
    print(f"outputs on a picture before and after: {'the same to the last bit' if same else 'DIFFERENT'}")
    if steps:
        shown = Scenes(200) if pictures == "scenes" else Photographs(pictures)
        teach(detector, shown, steps, rate, Path(f"{out}.run"))
        use_level(detector, limit)
        print(f"objects under {limit:g} px are now read from p2x")
    save_delta(detector, out)
    print(out)
    return Path(out)


def teach(detector: nn.Module, shown: Pictures, steps: int, rate: float, folder: Path) -> None:
    """Distil the finer level of ``detector`` on squares of ``shown`` at twice the size that it will see; nothing else moves."""
    descent = replace(baseline.quick_descent(rate), warmup=min(10, steps // 10))
    model: Any = detector.eval()
    with Run(folder, {"pictures": len(shown), "steps": steps, "descent": descent}, save_every=50) as run:
        learner = Learner(model.backbone.added, descent, steps)
        run.place(model)

        def step(images: list[Tensor], _: Any) -> dict[str, Tensor]:
            batch = torch.stack([model.transform.normalize(image) for image in images])
            return learner.descend(distillation(model, batch))

        fit(step, squares(detector, shown, run.seed), steps, run, {"level": learner}, "level")


def squares(detector: nn.Module, shown: Pictures, seed: int) -> Batches:
    """Random squares, sides multiples of 64 and at most 512 px, of pictures at twice the size that ``detector`` will see."""
    transform: Any = detector.transform
    short, longest = 2 * transform.min_size[-1], 2 * transform.max_size
    smallest = min(least(shown.size(index), short, longest) for index in range(len(shown)))
    side = min(CROP, smallest - smallest % 64)
    return Batches(shown, BATCH, seed, [Flip(), Resize(short, longest), Window(side)])


def least(size: tuple[int, int], short: int, longest: int) -> int:
    """The short side in px of a picture of ``size`` (H, W) after ``Resize(short, longest)``."""
    return round(min(size) * min(short / min(size), longest / max(size)))
