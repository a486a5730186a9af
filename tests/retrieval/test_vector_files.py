import numpy as np
import pytest
import torch

from featlift.retrieval.vector_files import read_faiss_index, read_names, read_vectors, reconstruct_vectors
from featlift.retrieval.vector_store import VectorStore


@pytest.fixture
def vectors():
    return torch.nn.functional.normalize(torch.randn(8, 4, generator=torch.Generator().manual_seed(0)), dim=1)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
def test_arrays(tmp_path, vectors, dtype):
    np.save(tmp_path / "x.npy", vectors.numpy().astype(dtype))
    torch.testing.assert_close(read_vectors(tmp_path / "x.npy"), vectors, atol=1e-3, rtol=0)


@pytest.mark.parametrize("factory", ["Flat", "IVF2,Flat", "HNSW4,Flat"])
def test_faiss_files(tmp_path, vectors, factory):
    faiss = pytest.importorskip("faiss")
    index = faiss.index_factory(4, factory)
    index.train(vectors.numpy())
    index.add(vectors.numpy())
    faiss.write_index(index, str(tmp_path / "x.faiss"))
    torch.testing.assert_close(read_vectors(tmp_path / "x.faiss"), vectors)


def test_lance_tables_of_others_and_of_featlift(tmp_path, vectors):
    lancedb = pytest.importorskip("lancedb")
    rows = [{"id": k, "embedding": x.tolist()} for k, x in enumerate(vectors)]
    lancedb.connect(tmp_path / "db").create_table("photos", rows)
    torch.testing.assert_close(read_vectors(tmp_path / "db" / "photos.lance"), vectors)
    VectorStore(tmp_path / "index", 4).add([str(k) for k in range(8)], vectors)
    torch.testing.assert_close(read_vectors(tmp_path / "index"), vectors)


def test_what_holds_no_vectors_is_refused(tmp_path):
    np.save(tmp_path / "text.npy", np.array(["a", "b"]))
    np.save(tmp_path / "nan.npy", np.full((2, 3), np.nan))
    (tmp_path / "broken.faiss").write_bytes(b"nothing")
    (tmp_path / "x.txt").write_text("1 2")
    for name, message in {
        "text.npy": "vectors are",
        "nan.npy": "not finite",
        "broken.faiss": "no readable FAISS index",
        "x.txt": "neither .npy",
        ".": "no LanceDB table",
    }.items():
        with pytest.raises(ValueError, match=message):
            read_vectors(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="There is no file"):
        read_vectors(tmp_path / "none.npy")


def test_an_index_that_keeps_no_vectors_is_explained(tmp_path):
    faiss = pytest.importorskip("faiss")
    index = faiss.IndexLSH(4, 8)
    faiss.write_index(index, str(tmp_path / "x.index"))
    assert read_faiss_index(tmp_path / "x.index").d == 4

    class Lost:
        ntotal = 1

        def reconstruct_n(self, start, count):
            raise RuntimeError("not implemented")

    with pytest.raises(ValueError, match=r"original vectors as \.npy"):
        reconstruct_vectors(Lost(), tmp_path / "x.index")


def test_names_are_one_per_vector(tmp_path):
    (tmp_path / "names.txt").write_text("a b.jpg\nc.jpg\n")
    assert read_names(tmp_path / "names.txt", 2) == ["a b.jpg", "c.jpg"]
    assert read_names("", 2) == ["0", "1"]
    with pytest.raises(ValueError, match="2 lines for 3 vectors"):
        read_names(tmp_path / "names.txt", 3)
