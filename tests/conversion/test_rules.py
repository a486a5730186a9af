"""Rules: every key is accounted for, and what does not fit is said."""

import pytest
import torch
from torch import nn

from featlift.conversion.rules import Rule, below, translate


def linear():
    return {"fc.weight": torch.rand(3, 2), "fc.bias": torch.rand(3), "anchors.0": torch.rand(4)}


RULES = [
    Rule(r"fc\.(weight|bias)", r"\1", lambda x: x.flip(0), "rows turned"),
    Rule(r"anchors\.\d", None, why="not needed"),
]


def test_taken_changed_and_dropped():
    state, module = linear(), nn.Linear(2, 3)
    ours, report = translate(state, RULES, module)
    torch.testing.assert_close(ours["weight"], state["fc.weight"].flip(0))
    assert report.taken == {"weight": "fc.weight", "bias": "fc.bias"}
    assert report.dropped == {"anchors.0": "not needed"}
    text = str(report)
    assert "2 tensors taken, 2 of them changed; 1 left out" in text
    assert "fc.bias → bias (rows turned)" in text


def test_every_problem_is_listed():
    state = {"fc.weight": torch.rand(3, 5), "else": torch.rand(1)}
    with pytest.raises(ValueError, match="Linear") as error:
        translate(state, RULES, nn.Linear(2, 3))
    for part in ("else [1]: no rule", "bias [3]: not in the file", "weight: [3, 5] in the file, [3, 2] here"):
        assert part in str(error.value)


def test_a_name_the_module_does_not_have():
    with pytest.raises(ValueError, match=r"wrong\.weight: the module has no such tensor"):
        translate({"a": torch.rand(1)}, [Rule("a", "wrong.weight")], nn.Identity())


def test_below_prefixes_both_sides():
    rules = below("inner.", [Rule(r"x(\d)", lambda m: f"y{int(m[1]) + 1}"), Rule("z", None)], r"outer\.")
    module = nn.Module()
    module.inner = nn.ParameterDict({"y2": torch.zeros(2)})
    ours, report = translate({"outer.x1": torch.ones(2), "outer.z": torch.ones(1)}, rules, module)
    assert list(ours) == ["inner.y2"]
    assert list(report.dropped) == ["outer.z"]
