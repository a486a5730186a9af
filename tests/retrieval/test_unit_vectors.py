import pytest
import torch
from torch.nn.functional import normalize

from featlift.retrieval.unit_vectors import check_unit_vectors, exact_cosines, sort_best_first


def test_vectors_become_float32():
    vectors = normalize(torch.rand(3, 5), dim=1)
    for dtype in (torch.float64, torch.float16):
        checked = check_unit_vectors(vectors.to(dtype), "Query")
        assert checked.dtype == torch.float32
        torch.testing.assert_close(checked, vectors, atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("factor", "is_accepted"), [(1.0, True), (0.0, True), (1.05, False), (7.0, False), (torch.inf, False)]
)
def test_lengths(factor, is_accepted):
    vectors = torch.eye(3) * torch.tensor([[1.0], [factor], [1.0]])
    if is_accepted:
        assert torch.equal(check_unit_vectors(vectors, "Query"), vectors)
    else:
        with pytest.raises(ValueError, match=r"Query 1 has length .*, and 0 more"):
            check_unit_vectors(vectors, "Query")


def test_equal_vectors_have_equal_scores_wherever_they_are():
    queries, vector = torch.randn(4, 517), torch.randn(517)
    scores = exact_cosines(queries, vector.expand(4, 131, 517))
    assert torch.equal(scores, scores[:, :1].expand(4, 131))
    torch.testing.assert_close(scores[:, 0], queries @ vector, atol=1e-3, rtol=1e-5)


def test_order():
    scores, rows = sort_best_first(torch.tensor([[0.5, 0.9, 0.5, 0.1]]), torch.tensor([[30, 20, 10, 5]]), 3)
    assert rows.tolist() == [[20, 10, 30]]
    assert scores.tolist() == [pytest.approx([0.9, 0.5, 0.5])]
