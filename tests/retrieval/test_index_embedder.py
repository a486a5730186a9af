import json

import pytest
import torch
from torch import nn

from featlift.checkpoints.fingerprint import module_fingerprint
from featlift.retrieval.embedders import EmbedderConfig, build_embedder
from featlift.retrieval.index_embedder import load_index_embedder, save_index_embedder

CONFIG = EmbedderConfig("test_resnet.r160_in1k", input_size=32)


@pytest.fixture
def index(tmp_path):
    torch.manual_seed(1)
    with pytest.warns(UserWarning, match="random weights"):
        embedder, _ = build_embedder(CONFIG)
    (tmp_path / "index").mkdir()
    save_index_embedder(tmp_path / "index", CONFIG, embedder, tmp_path)
    return tmp_path / "index", embedder


def change(folder, **values):
    file = folder / "embedder.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_an_index_has_its_embedder_with_it(index):
    folder, embedder = index
    change(folder, weights="/somewhere/else.pth")  # what it was made of is not needed
    loaded, dimension = load_index_embedder(folder, None)
    assert module_fingerprint(loaded) == module_fingerprint(embedder)
    assert loaded.eval()(torch.rand(1, 3, 32, 32)).shape == (1, dimension)


@pytest.mark.parametrize(
    "values", [{"weights": "/etc/passwd"}, {"weights": "download"}, {"encoder": "hf-hub:some/body"}]
)
def test_files_and_downloads_that_a_foreign_index_names_are_not_used(index, values, monkeypatch):
    folder, _ = index
    (folder / "embedder.safetensors").unlink()
    change(folder, **values)
    monkeypatch.setattr("featlift.retrieval.index_embedder.build_embedder", lambda config: pytest.fail("was built"))
    with pytest.raises(
        ValueError,
        match=r"may be someone else's. If it is yours: featlift index IMAGES --out .* --embedder.input-size 32",
    ):
        load_index_embedder(folder, None)


def test_what_the_user_asks_for_is_used(index, monkeypatch):
    folder, _ = index
    (folder / "embedder.safetensors").unlink()
    change(folder, weights="w.pth")
    monkeypatch.setattr(
        "featlift.retrieval.index_embedder.build_embedder", lambda config: (nn.Identity(), config.weights)
    )
    assert load_index_embedder(folder, EmbedderConfig(CONFIG.encoder, "w.pth", input_size=32))[1] == "w.pth"
