import numpy as np
import pytest

from featlift.data.synthetic.rng import PortableRNG


def test_numbers_are_the_high_half_of_numpys_raw_stream():
    raw = np.random.PCG64(np.random.SeedSequence((3, 14))).random_raw(50)
    rng = PortableRNG(3, 14)
    assert [rng.randint(10, 19) for _ in range(50)] == [10 + int(r) // 2**32 * 10 // 2**32 for r in raw]


@pytest.mark.parametrize(("low", "high"), [(0, 0), (-3, 3), (5, 260)])
def test_array_stays_in_its_range_and_reaches_both_ends(low, high):
    values = PortableRNG(1).randint_array(low, high, 50, 81)
    assert values.shape == (50, 81)
    assert (values.min(), values.max()) == (low, high)


def test_choice_and_chance_follow_their_shares():
    rng = PortableRNG(0)
    assert {rng.choice("abc") for _ in range(50)} == set("abc")
    assert sum(rng.chance(20) for _ in range(5000)) == pytest.approx(1000, abs=120)


def test_log_uniform_is_in_proportion_to_one_over_the_number():
    rng = PortableRNG(0)
    counts = np.bincount([rng.log_uniform(6, 40) for _ in range(20_000)], minlength=41)
    shares = 1 / np.arange(6, 41)
    assert not counts[:6].any()
    np.testing.assert_allclose(counts[6:] / 20_000, shares / shares.sum(), atol=0.01)


def test_other_keys_give_other_numbers():
    draws = {tuple(PortableRNG(*key).randint_array(0, 255, 8).tolist()) for key in [(0, 0), (0, 1), (1, 0), (1, 1)]}
    assert len(draws) == 4
