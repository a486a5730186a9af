import numpy as np
import pytest
import torch

from featlift.papers.fsr_gan import Settings
from featlift.papers.fsr_gan.vector_pairs import evaluate_vector_pairs, format_vector_results, read_vector_pairs
from featlift.retrieval.generator import IdentityGenerator


@pytest.fixture
def files(tmp_path):
    def write(low, high):
        for name, array in (("low", low), ("high", high)):
            np.save(tmp_path / f"{name}.npy", array.numpy())
        return str(tmp_path / "low.npy"), str(tmp_path / "high.npy")

    return write


def test_the_last_tenth_is_held_out_and_vectors_have_unit_length(files):
    low, high = torch.randn(3, 40, 4), 5 * torch.randn(40, 4)
    train, held_out = read_vector_pairs(Settings(vectors=files(low, high), ratios=(1, 2, 4)))
    assert (train.low.shape, held_out.low.shape) == ((3, 36, 4), (3, 4, 4))
    torch.testing.assert_close(held_out.high, torch.nn.functional.normalize(high[36:], dim=1))
    torch.testing.assert_close(train.low.norm(dim=-1), torch.ones(3, 36))


def test_the_evaluation_by_hand(files):
    torch.manual_seed(0)
    high = torch.nn.functional.normalize(torch.randn(20, 8), dim=1)
    low = high.clone()
    low[18] = high[3]  # is mistaken for another image, and finds itself at its rank by cosine
    settings = Settings(vectors=files(low, high))
    results = evaluate_vector_pairs(IdentityGenerator(), settings)
    rank = int((high @ high[3] > high[18] @ high[3]).sum())
    own = (0 / rank + 1 / (rank + 1)) / 2  # trapezoid rule, one positive at this rank
    assert results["map"]["raw"][1.0] == pytest.approx((1 + own) / 2)
    assert results["map"]["raw"] == results["map"]["super-resolved"]
    assert results["distance"]["raw"][1.0][0] == pytest.approx((high[3] - high[18]).norm().item() / 2, rel=1e-5)
    assert format_vector_results(results).splitlines()[0].startswith("2 held-out vectors")


def test_too_few_or_unequal_pairs_are_refused(files):
    with pytest.raises(ValueError, match="at least 20 pairs"):
        read_vector_pairs(Settings(vectors=files(torch.ones(5, 4), torch.ones(5, 4))))
    with pytest.raises(ValueError, match="for the 2 ratios"):
        read_vector_pairs(Settings(vectors=files(torch.ones(3, 30, 4), torch.ones(30, 4)), ratios=(1, 2)))
