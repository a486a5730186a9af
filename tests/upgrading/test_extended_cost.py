"""Cost of a level, compared with the pass on the image at twice the size."""

import pytest

from featlift.upgrading import upgrade
from featlift.upgrading.extended_cost import level_cost


def test_the_enlarged_image_costs_four_times_as_much_and_the_level_less(yolox):
    upgrade(yolox, level="p3x", width=8)
    cost = level_cost(yolox, (64, 96))
    assert cost.gmacs["2x image"] == pytest.approx(4 * cost.gmacs["image"])
    assert cost.gmacs["image"] < cost.gmacs["level"] < cost.gmacs["2x image"]
    assert cost.gmac_share == pytest.approx(cost.gmacs["level"] / cost.gmacs["2x image"])
    assert cost.seconds is None
    assert "of the 2x image" in str(cost)


def test_time_is_measured_on_request(yolox):
    upgrade(yolox, level="p3x", width=8)
    cost = level_cost(yolox, (64, 64), rounds=1)
    assert min(cost.seconds.values()) > 0
    assert f"{cost.time_share:.2f} of the time" in str(cost)
