"""Names in tables: the entry, or an error with the nearest name and the choices."""

import pytest

from featlift.registry import check_choice, check_options, find_nearest, look_up, suggest

TABLE = {"retinanet": 1, "faster-rcnn": 2}


def test_the_nearest_candidate_is_suggested():
    assert suggest("retina-net", TABLE) == " Did you mean 'retinanet'?"
    assert suggest("yolo", TABLE) == ""
    assert find_nearest("retina-net", TABLE) == "retinanet"
    assert find_nearest("retina-net", TABLE, cutoff=0.99) == ""


def test_look_up_returns_the_entry_or_names_the_choices():
    assert look_up(TABLE, "retinanet", "detector") == 1
    message = r"Unknown detector 'retina-net'\. Did you mean 'retinanet'\? Choose one of: retinanet, faster-rcnn\."
    with pytest.raises(ValueError, match=message):
        look_up(TABLE, "retina-net", "detector")


def test_a_value_is_one_of_the_choices():
    check_choice("fp32", ("fp32", "bf16"), "precision")
    with pytest.raises(ValueError, match=r"Unknown precision 'fp8'; choose one of fp32, bf16\."):
        check_choice("fp8", ("fp32", "bf16"), "precision")


def test_unknown_options_are_listed_with_the_known_ones():
    def factory(channels, depth=1, norm="none"): ...

    check_options("net", factory, {"depth": 2}, skip=("channels",))
    with pytest.raises(ValueError, match=r"'net' has no option a, width; it has: depth, norm\."):
        check_options("net", factory, {"width": 2, "a": 1}, skip=("channels",))
    with pytest.raises(ValueError, match=r"it has: none\."):
        check_options("net", factory, {"width": 2}, skip=("channels", "depth", "norm"))
