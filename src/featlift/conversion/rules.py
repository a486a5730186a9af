"""How one name becomes another: rules, their application, and the report of what became of every key."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn

KeyReplacement = Callable[[re.Match[str]], str]


@dataclass(frozen=True)
class KeyRule:
    """Keys that match ``pattern`` whole become ``replacement``.

    Attributes:
        pattern: a regular expression.
        replacement: the new name, with groups as in :func:`re.sub`, or a function of the match; None leaves the tensor out.
        transform: what is done to the tensor.
        reason: said in the report of a tensor that is left out or changed.
    """

    pattern: str
    replacement: str | KeyReplacement | None
    transform: Callable[[Tensor], Tensor] | None = None
    reason: str = ""


@dataclass
class ImportReport:
    """What became of every key. ``str`` gives a table.

    Attributes:
        loaded_keys: our name → theirs.
        transformed_keys: our name → what was done to the tensor on the way.
        skipped_keys: their name → why it is not needed.
        notes: what else differs between the published model and ours.
    """

    loaded_keys: dict[str, str] = field(default_factory=dict)
    transformed_keys: dict[str, str] = field(default_factory=dict)
    skipped_keys: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        rows = [f"{theirs} → {ours}{self._format_transform(ours)}" for ours, theirs in self.loaded_keys.items()]
        left = [f"{theirs}: left out, {why}" for theirs, why in self.skipped_keys.items()]
        head = f"{len(self.loaded_keys)} tensors taken, {len(self.transformed_keys)} of them changed; {len(self.skipped_keys)} left out"
        return "\n".join([head, *rows, *left, *(f"note: {note}" for note in self.notes)])

    def _format_transform(self, ours: str) -> str:
        return f" ({self.transformed_keys[ours]})" if ours in self.transformed_keys else ""


def with_prefix(prefix: str, rules: Sequence[KeyRule], pattern_prefix: str | None = None) -> list[KeyRule]:
    """``rules`` for keys that stand below ``prefix`` here and below the regular expression ``pattern_prefix`` (default: nothing more) there."""
    return [
        KeyRule((pattern_prefix or "") + r.pattern, _prefix_replacement(prefix, r.replacement), r.transform, r.reason)
        for r in rules
    ]


def _prefix_replacement(prefix: str, ours: str | KeyReplacement | None) -> str | KeyReplacement | None:
    if callable(ours):
        return lambda match: prefix + ours(match)
    return None if ours is None else prefix + ours


def convert_state_dict(
    state: Mapping[str, Tensor], rules: Sequence[KeyRule], module: nn.Module
) -> tuple[dict[str, Tensor], ImportReport]:
    """``state`` under our names, and the report.

    Raises:
        ValueError: if a key matches no rule, a tensor of ``module`` gets nothing, or a shape differs; all are listed.
    """
    ours, report, unknown = {}, ImportReport(), []
    for key, tensor in state.items():
        rule, match = _find_rule(key, rules)
        if rule is None or match is None:
            unknown.append(f"{key} {list(tensor.shape)}: no rule of this layout knows it")
        elif rule.replacement is None:
            report.skipped_keys[key] = rule.reason
        else:
            name = rule.replacement(match) if callable(rule.replacement) else match.expand(rule.replacement)
            ours[name] = rule.transform(tensor) if rule.transform else tensor
            report.loaded_keys[name] = key
            report.transformed_keys |= {name: rule.reason} if rule.transform else {}
    problems = unknown + _find_mismatches(ours, module)
    if problems:
        raise ValueError(f"The weights do not fit {type(module).__name__}:\n  " + "\n  ".join(problems))
    return ours, report


def _find_rule(key: str, rules: Sequence[KeyRule]) -> tuple[KeyRule | None, re.Match[str] | None]:
    for rule in rules:
        match = re.fullmatch(rule.pattern, key)
        if match:
            return rule, match
    return None, None


def _find_mismatches(ours: Mapping[str, Tensor], module: nn.Module) -> list[str]:
    own = {name: tensor for name, tensor in module.state_dict().items() if not name.endswith("num_batches_tracked")}
    missing = [f"{name} {list(tensor.shape)}: not in the file" for name, tensor in own.items() if name not in ours]
    whole = module.state_dict()
    foreign = [f"{name}: the module has no such tensor" for name in ours if name not in whole]
    shapes = [
        f"{name}: {list(tensor.shape)} in the file, {list(whole[name].shape)} here"
        for name, tensor in ours.items()
        if name in whole and tensor.shape != whole[name].shape
    ]
    return missing + foreign + shapes
