import numpy as np
import pytest
import torch

from featlift.checkpoints import save
from featlift.deployment.vector_search import search_vector_index, super_resolve_vector_file, super_resolve_vectors
from featlift.retrieval.generator import ConditionedGenerator, IdentityGenerator


def test_lengths_are_kept(tmp_path):
    save(IdentityGenerator(), tmp_path / "G.safetensors")
    vectors = 3 * torch.randn(5, 4)
    torch.testing.assert_close(super_resolve_vectors(vectors, str(tmp_path / "G.safetensors")), vectors)


def test_a_conditioned_generator_gets_the_ratio(tmp_path):
    G = ConditionedGenerator(4, 8)
    torch.nn.init.normal_(G.correction.weight)
    save(G, tmp_path / "G.safetensors")
    x = torch.nn.functional.normalize(torch.randn(2, 4), dim=1)
    expected = torch.nn.functional.normalize(G.eval()(x, torch.tensor([4.0, 4.0])).detach(), dim=1)
    torch.testing.assert_close(super_resolve_vectors(x, str(tmp_path / "G.safetensors"), 4.0), expected)
    with pytest.raises(ValueError, match="needs the ratio"):
        super_resolve_vectors(x, str(tmp_path / "G.safetensors"))


def test_only_numpy_files_are_written(tmp_path):
    with pytest.raises(ValueError, match=r"no \.npy file"):
        super_resolve_vector_file("x.npy", "run", str(tmp_path / "x.faiss"))


def test_ids_of_the_index_itself_are_names(tmp_path):
    faiss = pytest.importorskip("faiss")
    index = faiss.IndexIDMap(faiss.IndexFlatL2(2))
    index.add_with_ids(np.array([[0.0, 0.0], [1.0, 1.0]], np.float32), np.array([70, 90]))
    faiss.write_index(index, str(tmp_path / "x.faiss"))
    np.save(tmp_path / "q.npy", np.array([[0.9, 1.0]], np.float32))
    results = search_vector_index(tmp_path / "x.faiss", [tmp_path / "q.npy"], k=5)
    assert results["raw"].names == [["90", "70"]]
    assert results["raw"].scores[0].tolist() == pytest.approx([0.01, 1.81])
