import pytest
import torch
import torch.nn.functional as nnf

from featlift.checkpoints import load, save
from featlift.retrieval.embedders import EmbedderConfig, build_embedder
from featlift.retrieval.whitening import Whitening, fit_whitening


def test_whitened_vectors_are_uncorrelated_and_of_equal_variance(tmp_path):
    torch.manual_seed(0)
    x = torch.randn(500, 6) @ torch.randn(6, 6) + 3
    whitening = fit_whitening(x, 4)
    y = (x - whitening.mean) @ whitening.projection.T
    torch.testing.assert_close(torch.cov(y.T), torch.eye(4), atol=1e-4, rtol=0)
    _, _, directions = torch.pca_lowrank(x, q=6, niter=20)  # an independent PCA: the same directions up to their signs
    cosines = (nnf.normalize(whitening.projection, dim=1) @ directions[:, :4]).abs()
    torch.testing.assert_close(cosines, torch.eye(4), atol=1e-2, rtol=0)
    save(whitening, tmp_path / "w.safetensors")
    assert torch.equal(load(tmp_path / "w.safetensors")(x), whitening(x))


def test_an_embedder_whitens_its_descriptors(tmp_path):
    embedder, dimension = build_embedder(EmbedderConfig("gist", input_size=64))
    images = torch.rand(12, 3, 64, 64)
    save(fit_whitening(embedder(images), 5), tmp_path / "w.safetensors")
    whitened, size = build_embedder(EmbedderConfig("gist", input_size=64, whitening=str(tmp_path / "w.safetensors")))
    assert size == 5
    torch.testing.assert_close(whitened(images), load(tmp_path / "w.safetensors")(embedder(images)))
    save(Whitening(dimension + 1, 5), tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="no whitening of"):
        build_embedder(EmbedderConfig("gist", input_size=64, whitening=str(tmp_path / "other.safetensors")))


def test_too_few_descriptors_are_refused():
    with pytest.raises(ValueError, match="more descriptors"):
        fit_whitening(torch.randn(4, 6), 4)
