import numpy as np
import pytest
from PIL import Image

from featlift.report import Scenes, before_after
from featlift.report.curves import colour


@pytest.mark.parametrize("ending", ["png", "svg"])
@pytest.mark.parametrize("crops", [0, 2])
def test_a_figure_for_a_readme(tmp_path, truth, runs, comparison, evidence, ending, crops):
    scenes = Scenes(evidence, comparison, runs)
    focus = [annotation["bbox"] for annotation in truth["annotations"] if annotation["image_id"] == 6][:crops]
    path = before_after(tmp_path / f"a.{ending}", evidence.picture(6), scenes.outlines(6), ("nearest", "afi"), focus)
    assert list(tmp_path.iterdir()) == [path]
    if ending == "svg":
        assert colour(1) in path.read_text()
    else:
        pixels = np.array(Image.open(path).convert("RGB"))
        tint = np.array([int(colour(1)[i : i + 2], 16) for i in (1, 3, 5)])
        half = len(pixels) // 2
        seen = (np.abs(pixels.astype(int) - tint) < 3).all(-1)
        assert seen[half:].sum() > 100, "what the second found is drawn in its colour, below"
        assert seen[:half].sum() < seen[half:].sum() / 10
