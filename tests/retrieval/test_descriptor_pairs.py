"""Descriptor pair batches: reproducible from any position, with matching descriptors."""

import itertools

import pytest
import torch

from featlift.retrieval.descriptor_pairs import DescriptorPairLoader, DescriptorPairs

LOW = torch.arange(3 * 5 * 2.0).view(3, 5, 2)
PAIRS = DescriptorPairs((1, 2, 8), LOW, LOW[0])


def first(n, step=0, **options):
    return list(itertools.islice(DescriptorPairLoader(PAIRS, 7, seed=3).iter_from(step, **options), n))


def test_what_belongs_together_stays_together():
    for (low, ratio), high in first(20):
        for one, r, sharp in zip(low, ratio.tolist(), high, strict=True):
            index = LOW[0].tolist().index(sharp.tolist())
            assert one.tolist() == LOW[(1, 2, 8).index(r), index].tolist()


def test_every_image_and_ratio_comes():
    batches = first(40)
    assert {r for (_, ratio), _ in batches for r in ratio.tolist()} == {1, 2, 8}
    assert {tuple(h.tolist()) for _, high in batches for h in high} == {tuple(h.tolist()) for h in LOW[0]}


def test_a_stream_goes_on_anywhere_and_ranks_differ():
    (low, ratio), high = first(6)[5]
    (low2, ratio2), high2 = first(1, step=5)[0]
    assert torch.equal(low, low2)
    assert torch.equal(ratio, ratio2)
    assert torch.equal(high, high2)
    assert not torch.equal(first(1)[0][0][0], first(1, rank=1, world_size=2)[0][0][0])


def test_one_ratio():
    one = PAIRS.at_ratio(2)
    assert one.ratios == [2]
    assert torch.equal(one.low, LOW[1:2])


def test_parts_share_nothing_and_keep_their_order():
    known, held = PAIRS.split(0.6)
    assert (len(known.high), len(held.high)) == (3, 2)
    assert torch.equal(torch.cat([known.low, held.low], dim=1), LOW)
    assert torch.equal(torch.cat([known.high, held.high]), PAIRS.high)


def test_shapes_must_fit():
    with pytest.raises(ValueError, match=r"\[R, N"):
        DescriptorPairs((1, 2), LOW, LOW[0])
