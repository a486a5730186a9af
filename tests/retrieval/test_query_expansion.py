import torch
import torch.nn.functional as nnf

from featlift.retrieval.query_expansion import expand_queries


def test_expansion_is_a_literal_loop():
    torch.manual_seed(0)
    queries, results = nnf.normalize(torch.randn(2, 5), dim=1), nnf.normalize(torch.randn(2, 3, 5), dim=2)
    scores = torch.tensor([[0.9, 0.5, -0.2], [0.3, 0.2, 0.1]])
    for q in range(2):
        total = queries[q].clone()
        for k in range(3):
            total += max(0.0, scores[q, k].item()) ** 3 * results[q, k]
        torch.testing.assert_close(expand_queries(queries, results, scores)[q], total / total.norm())
