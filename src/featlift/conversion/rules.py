"""Rules that map the keys of published state dicts to FeatLift's, their application, and the import report."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn

KeyReplacement = Callable[[re.Match[str]], str]


@dataclass(frozen=True)
class KeyRule:
    """Rule that maps keys which fully match ``pattern`` to ``replacement``.

    Attributes:
        pattern: Regular expression for the published key.
        replacement: FeatLift key, with groups as in :func:`re.sub`, or a function of the match; None skips the tensor.
        transform: Transform of the tensor.
        reason: Explanation in the report for a skipped or transformed tensor.
    """

    pattern: str
    replacement: str | KeyReplacement | None
    transform: Callable[[Tensor], Tensor] | None = None
    reason: str = ""


@dataclass
class ImportReport:
    """Result of an import for every key; ``str`` returns a table.

    Attributes:
        loaded_keys: FeatLift key → published key.
        transformed_keys: FeatLift key → description of the transform.
        skipped_keys: Published key → reason why it is not needed.
        notes: Other differences between the published model and FeatLift's.
    """

    loaded_keys: dict[str, str] = field(default_factory=dict)
    transformed_keys: dict[str, str] = field(default_factory=dict)
    skipped_keys: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        loaded = [f"{source} → {key}{self._format_transform(key)}" for key, source in self.loaded_keys.items()]
        skipped = [f"{source}: skipped, {reason}" for source, reason in self.skipped_keys.items()]
        summary = (
            f"{len(loaded)} tensors loaded, {len(self.transformed_keys)} of them transformed; {len(skipped)} skipped"
        )
        return "\n".join([summary, *loaded, *skipped, *(f"note: {note}" for note in self.notes)])

    def _format_transform(self, key: str) -> str:
        return f" ({self.transformed_keys[key]})" if key in self.transformed_keys else ""


def with_prefix(prefix: str, rules: Sequence[KeyRule], pattern_prefix: str | None = None) -> list[KeyRule]:
    """Return ``rules`` for FeatLift keys below ``prefix`` and published keys below the regular expression ``pattern_prefix``."""
    return [
        KeyRule((pattern_prefix or "") + r.pattern, _prefix_replacement(prefix, r.replacement), r.transform, r.reason)
        for r in rules
    ]


def _prefix_replacement(prefix: str, replacement: str | KeyReplacement | None) -> str | KeyReplacement | None:
    if callable(replacement):
        return lambda match: prefix + replacement(match)
    return None if replacement is None else prefix + replacement


def convert_state_dict(
    state: Mapping[str, Tensor], rules: Sequence[KeyRule], module: nn.Module
) -> tuple[dict[str, Tensor], ImportReport]:
    """Return ``state`` with FeatLift's keys, and the report.

    Raises:
        ValueError: If a key matches no rule, a tensor of ``module`` is missing, or a shape differs; all problems are listed.
    """
    converted, report, unknown = {}, ImportReport(), []
    for key, tensor in state.items():
        rule, match = _find_rule(key, rules)
        if rule is None or match is None:
            unknown.append(f"{key} {list(tensor.shape)}: no rule of this layout matches")
        elif rule.replacement is None:
            report.skipped_keys[key] = rule.reason
        else:
            name = rule.replacement(match) if callable(rule.replacement) else match.expand(rule.replacement)
            converted[name] = rule.transform(tensor) if rule.transform else tensor
            report.loaded_keys[name] = key
            report.transformed_keys |= {name: rule.reason} if rule.transform else {}
    problems = unknown + _find_mismatches(converted, module)
    if problems:
        raise ValueError(f"The weights do not fit {type(module).__name__}:\n  " + "\n  ".join(problems))
    return converted, report


def _find_rule(key: str, rules: Sequence[KeyRule]) -> tuple[KeyRule | None, re.Match[str] | None]:
    for rule in rules:
        match = re.fullmatch(rule.pattern, key)
        if match:
            return rule, match
    return None, None


def _find_mismatches(converted: Mapping[str, Tensor], module: nn.Module) -> list[str]:
    state = module.state_dict()
    missing = [
        f"{name} {list(tensor.shape)}: not in the file"
        for name, tensor in state.items()
        if name not in converted and not name.endswith("num_batches_tracked")
    ]
    unexpected = [f"{name}: the module has no such tensor" for name in converted if name not in state]
    shapes = [
        f"{name}: {list(tensor.shape)} in the file, {list(state[name].shape)} in the module"
        for name, tensor in converted.items()
        if name in state and tensor.shape != state[name].shape
    ]
    return missing + unexpected + shapes
