from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from featlift.app.search import SearchComparison
from featlift.checkpoints import save
from featlift.commands.search import index, search
from featlift.data.synthetic.landmarks import write_synthetic_landmarks
from featlift.retrieval.embedders import EmbedderConfig
from featlift.retrieval.generator import ResidualGenerator


@pytest.fixture(scope="module")
def landmarks(tmp_path_factory):
    """Folder with an index of six images, a query, and a generator with random weights."""
    folder = tmp_path_factory.mktemp("landmarks")
    write_synthetic_landmarks(folder, num_landmarks=3, gallery_views=2, query_views=1, image_size=48)
    store = index(str(folder / "gallery"), str(folder / "index"), EmbedderConfig("gist", input_size=64))
    torch.manual_seed(0)
    generator = ResidualGenerator(store.dimension, 16)
    torch.nn.init.normal_(generator.correction.weight, std=3.0)
    save(generator, folder / "generator.safetensors")
    return folder


def test_rankings_are_those_of_the_command(landmarks):
    query = next((landmarks / "query").rglob("*.png"))
    generator = str(landmarks / "generator.safetensors")
    expected = search(str(landmarks / "index"), [str(query)], generator, k=3)
    view = SearchComparison(str(landmarks / "index"), generator, "cpu")(query, 3)
    assert list(view.images) == ["raw", "super-resolved"]
    for name, results in expected.items():
        names = [caption.partition(":")[0] for _, caption in view.images[name]]
        scores = [float(caption.partition(": ")[2].partition(",")[0]) for _, caption in view.images[name]]
        assert names == results.names[0]
        assert scores == pytest.approx(results.scores[0].tolist(), abs=6e-4)
    raw, other = (results.names[0] for results in expected.values())
    assert raw != other  # else the marks below are not tested
    for (_, caption), name in zip(view.images["raw"], raw, strict=True):
        assert caption.endswith("only here") == (name not in other)
    assert view.table.count("\n| ") == 2


def test_thumbnails_are_the_images_of_the_index(landmarks):
    query = next((landmarks / "query").rglob("*.png"))
    view = SearchComparison(str(landmarks / "index"))(query, 1)
    thumbnail, caption = view.images["raw"][0]
    assert np.array_equal(
        thumbnail, np.asarray(Image.open(landmarks / "gallery" / caption.partition(":")[0]).convert("RGB"))
    )


def test_a_removed_image_is_gray(landmarks, tmp_path):
    query = next((landmarks / "query").rglob("*.png"))
    search_view = SearchComparison(str(landmarks / "index"))
    search_view.gallery = Path(tmp_path)
    assert (search_view(query, 1).images["raw"][0][0] == 128).all()


def test_no_index(tmp_path):
    with pytest.raises(FileNotFoundError, match="featlift index IMAGES --out"):
        SearchComparison(str(tmp_path))
