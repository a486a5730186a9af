"""Rules: every key is accounted for, and all problems are reported."""

import pytest
import torch
from torch import nn

from featlift.conversion.rules import KeyRule, convert_state_dict, with_prefix


def linear():
    return {"fc.weight": torch.rand(3, 2), "fc.bias": torch.rand(3), "anchors.0": torch.rand(4)}


RULES = [
    KeyRule(r"fc\.(weight|bias)", r"\1", lambda x: x.flip(0), "rows reversed"),
    KeyRule(r"anchors\.\d", None, reason="not needed"),
]


def test_loaded_transformed_and_skipped():
    state, module = linear(), nn.Linear(2, 3)
    converted, report = convert_state_dict(state, RULES, module)
    torch.testing.assert_close(converted["weight"], state["fc.weight"].flip(0))
    assert report.loaded_keys == {"weight": "fc.weight", "bias": "fc.bias"}
    assert report.skipped_keys == {"anchors.0": "not needed"}
    text = str(report)
    assert "2 tensors loaded, 2 of them transformed; 1 skipped" in text
    assert "fc.bias → bias (rows reversed)" in text


def test_every_problem_is_listed():
    state = {"fc.weight": torch.rand(3, 5), "else": torch.rand(1)}
    with pytest.raises(ValueError, match="Linear") as error:
        convert_state_dict(state, RULES, nn.Linear(2, 3))
    for part in ("else [1]: no rule", "bias [3]: not in the file", "weight: [3, 5] in the file, [3, 2] in the module"):
        assert part in str(error.value)


def test_a_name_the_module_does_not_have():
    with pytest.raises(ValueError, match=r"wrong\.weight: the module has no such tensor"):
        convert_state_dict({"a": torch.rand(1)}, [KeyRule("a", "wrong.weight")], nn.Identity())


def test_prefixes():
    rules = with_prefix("inner.", [KeyRule(r"x(\d)", lambda m: f"y{int(m[1]) + 1}"), KeyRule("z", None)], r"outer\.")
    module = nn.Module()
    module.inner = nn.ParameterDict({"y2": torch.zeros(2)})
    converted, report = convert_state_dict({"outer.x1": torch.ones(2), "outer.z": torch.ones(1)}, rules, module)
    assert list(converted) == ["inner.y2"]
    assert list(report.skipped_keys) == ["outer.z"]
