"""Index a folder, change the folder, search with small images."""

import pytest
import torch

from featlift.checkpoints import save
from featlift.commands.search import index, search
from featlift.data.synthetic.landmarks import write_synthetic_landmarks
from featlift.retrieval.embedders import EmbedderConfig
from featlift.retrieval.generator import ResidualGenerator

EMBEDDER = EmbedderConfig("gist", input_size=64)


@pytest.fixture
def folder(tmp_path):
    write_synthetic_landmarks(tmp_path / "images", num_landmarks=4, gallery_views=2, query_views=1, image_size=48)
    return tmp_path / "images" / "gallery"


@pytest.mark.parametrize("index_type", ["", "ivf-flat"])
def test_an_image_finds_itself_and_the_sheet_is_written(tmp_path, folder, index_type):
    if index_type:
        pytest.importorskip("faiss")
    index(str(folder), str(tmp_path / "index"), EMBEDDER, index_type)
    G = ResidualGenerator(576, 16)
    torch.nn.init.normal_(G.correction.weight, std=0.3)
    (tmp_path / "run").mkdir()
    save(G, tmp_path / "run" / "generator.safetensors")
    query = folder / "landmark-002" / "01.png"
    results = search(str(tmp_path / "index"), [str(query)], str(tmp_path / "run"), k=3, index_type=index_type)
    assert results["raw"].names[0][0] == "landmark-002/01.png"
    assert results["raw"].scores[0, 0].item() == pytest.approx(1, abs=1e-5)
    assert not torch.equal(results["raw"].scores, results["super-resolved"].scores)
    page = (tmp_path / "index" / "contact_sheet.html").read_text()
    assert page.count("data:image/png") == 1 + 3 + 3


def test_an_unknown_device_is_refused(tmp_path, folder):
    with pytest.raises(ValueError, match="Unknown device 'quantum'"):
        index(str(folder), str(tmp_path / "index"), EMBEDDER, device="quantum")
    assert not (tmp_path / "index").exists()
    index(str(folder), str(tmp_path / "index"), EMBEDDER, device="cpu")
    query = str(folder / "landmark-002" / "01.png")
    with pytest.raises(ValueError, match="Unknown device 'quantum'"):
        search(str(tmp_path / "index"), [query], device="quantum")
