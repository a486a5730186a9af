"""Parameter counts of the paper's tables, identity initialization, and the use of the ratio."""

import copy

import pytest
import torch
import torch.nn.functional as nnf

from featlift.retrieval.generator import (
    ConditionedGenerator,
    DescriptorGenerator,
    IdentityGenerator,
    ResidualGenerator,
    descriptor_grid_side,
    same_padding_conv,
    super_resolve_descriptors,
)

MAKE = {
    "paper": lambda: DescriptorGenerator(64, dropout=0.0),
    "residual": lambda: ResidualGenerator(64, hidden_dim=32, dropout=0.0),
    "conditioned": lambda: ConditionedGenerator(64, hidden_dim=32, dropout=0.0),
    "residual of rank 2": lambda: ResidualGenerator(64, hidden_dim=32, dropout=0.0, rank=2),
    "conditioned of rank 1": lambda: ConditionedGenerator(64, hidden_dim=32, dropout=0.0, rank=1),
}


@pytest.fixture(params=list(MAKE))
def generator(request):
    torch.manual_seed(0)
    return MAKE[request.param]()


def unit(rows, dimension=64):
    return nnf.normalize(torch.rand(rows, dimension, generator=torch.Generator().manual_seed(1)), dim=1)


def test_the_papers_generator_has_its_parameters():
    rows = [260, 808, 3_216, 12_832, 51_264, 204_928]
    model = DescriptorGenerator(4096)
    assert [sum(p.numel() for p in c.parameters()) for c in model.convolutions] == rows
    assert sum(p.numel() for p in model.last.parameters()) == 33_558_528
    assert sum(p.numel() for p in model.parameters()) == 33_831_836
    assert model(torch.rand(2, 4096)).shape == (2, 4096)


def test_every_layer_is_rectified_and_the_map_sizes_are_table_2():
    sizes = []
    model = DescriptorGenerator(4096)
    for convolution in model.convolutions:
        convolution.register_forward_hook(lambda m, i, o: sizes.append(tuple(o.shape[1:])))
    model(torch.rand(1, 4096))
    assert sizes == [(4, 64, 64), (8, 32, 32), (16, 32, 32), (32, 16, 16), (64, 16, 16), (128, 8, 8)]


@pytest.mark.parametrize(
    ("kernel", "stride", "before", "after"), [(8, 1, 3, 4), (5, 2, 1, 2), (5, 1, 2, 2), (3, 2, 0, 1)]
)
def test_padding_is_tensorflows_same(kernel, stride, before, after):
    assert tuple(same_padding_conv(1, 1, kernel, stride)[0].padding) == (before, after, before, after)


def test_batched_equals_single_and_every_parameter_learns(generator):
    x, ratio = unit(5), torch.tensor([2.0, 3, 4, 5, 8])
    with torch.no_grad():
        for p in generator.parameters():  # a zero last layer gives the others zero gradient
            p.add_(0.05 * torch.randn_like(p))
    together = generator(x, ratio)
    alone = torch.cat([generator(x[i : i + 1], ratio[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    together.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in generator.parameters())


@pytest.mark.parametrize("name", [name for name in MAKE if name != "paper"])
def test_untrained_residual_generators_are_the_identity(name):
    x = unit(4)
    assert torch.equal(MAKE[name]()(x, torch.full((4,), 8.0)), x)


@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("cls", [ResidualGenerator, ConditionedGenerator])
def test_corrections_have_the_given_rank(cls, rank):
    model, x = cls(64, hidden_dim=32, dropout=0.0, rank=rank).double(), unit(20).double()
    torch.nn.init.normal_(model.correction[-1].weight)
    actual = torch.linalg.matrix_rank((model(x, torch.full((20,), 4.0).double()) - x).detach(), rtol=1e-9)
    assert actual == rank


def test_a_negative_rank_is_rejected():
    with pytest.raises(ValueError, match="-1"):
        ResidualGenerator(64, rank=-1)


def test_the_conditioned_generator_never_touches_a_sharp_query():
    model = ConditionedGenerator(64, hidden_dim=32)
    torch.nn.init.normal_(model.correction.weight)
    x = unit(3)
    assert torch.equal(model(x, torch.ones(3)), x)
    assert not torch.equal(model(x, torch.full((3,), 2.0)), x)


def test_blind_generators_ignore_the_ratio(generator):
    x = unit(3)
    if isinstance(generator, ConditionedGenerator):
        with pytest.raises(ValueError, match="ratio"):
            generator(x)
    else:
        assert torch.equal(generator(x), generator(x, torch.full((3,), 8.0)))


def test_gain_keeps_the_input_alive():
    """With gain 1, the biases dominate unit vectors: two different descriptors give nearly the same direction (spec §7.1)."""
    torch.manual_seed(0)
    pair = unit(2, 4096)
    scaled, printed = DescriptorGenerator(dropout=0.0), DescriptorGenerator(dropout=0.0, gain=1.0)
    printed.load_state_dict(copy.deepcopy(scaled.state_dict()))
    distances = [1 - nnf.cosine_similarity(*model(pair).split(1)).item() for model in (scaled, printed)]
    assert distances[0] > 20 * distances[1]


def test_super_resolved_descriptors_are_unit_vectors_without_graph(generator):
    out = super_resolve_descriptors(generator, unit(3), torch.full((3,), 4.0))
    torch.testing.assert_close(out.norm(dim=1), torch.ones(3))
    assert not out.requires_grad


@pytest.mark.parametrize(("dimension", "side"), [(64, 8), (576, 24), (4096, 64)])
def test_square_grids(dimension, side):
    assert descriptor_grid_side(dimension) == side


@pytest.mark.parametrize("dimension", [1280, 100, 512])
def test_a_descriptor_that_is_no_square_grid_is_rejected(dimension):
    with pytest.raises(ValueError, match="ResidualGenerator"):
        DescriptorGenerator(dimension)


def test_identity():
    x = torch.rand(2, 3)
    assert IdentityGenerator()(x, torch.ones(2)) is x
