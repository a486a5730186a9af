"""How one name becomes another: rules, their application, and the report of what became of every key."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn

Rename = Callable[[re.Match[str]], str]


@dataclass(frozen=True)
class Rule:
    """Keys that match ``theirs`` whole become ``ours``.

    Attributes:
        theirs: a regular expression.
        ours: the new name, with groups as in :func:`re.sub`, or a function of the match; None leaves the tensor out.
        change: what is done to the tensor.
        why: said in the report of a tensor that is left out or changed.
    """

    theirs: str
    ours: str | Rename | None
    change: Callable[[Tensor], Tensor] | None = None
    why: str = ""


@dataclass
class Imported:
    """What became of every key. ``str`` gives a table.

    Attributes:
        taken: our name → theirs.
        changed: our name → what was done to the tensor on the way.
        dropped: their name → why it is not needed.
        notes: what else differs between the published model and ours.
    """

    taken: dict[str, str] = field(default_factory=dict)
    changed: dict[str, str] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        rows = [f"{theirs} → {ours}{self._how(ours)}" for ours, theirs in self.taken.items()]
        left = [f"{theirs}: left out, {why}" for theirs, why in self.dropped.items()]
        head = f"{len(self.taken)} tensors taken, {len(self.changed)} of them changed; {len(self.dropped)} left out"
        return "\n".join([head, *rows, *left, *(f"note: {note}" for note in self.notes)])

    def _how(self, ours: str) -> str:
        return f" ({self.changed[ours]})" if ours in self.changed else ""


def below(prefix: str, inner: Sequence[Rule], theirs: str | None = None) -> list[Rule]:
    """``inner`` for keys that stand below ``prefix`` here and below the regular expression ``theirs`` (default: nothing more) there."""
    return [Rule((theirs or "") + r.theirs, _prefixed(prefix, r.ours), r.change, r.why) for r in inner]


def _prefixed(prefix: str, ours: str | Rename | None) -> str | Rename | None:
    if callable(ours):
        return lambda match: prefix + ours(match)
    return None if ours is None else prefix + ours


def translate(
    state: Mapping[str, Tensor], rules: Sequence[Rule], module: nn.Module
) -> tuple[dict[str, Tensor], Imported]:
    """``state`` under our names, and the report.

    Raises:
        ValueError: if a key matches no rule, a tensor of ``module`` gets nothing, or a shape differs; all are listed.
    """
    ours, report, unknown = {}, Imported(), []
    for key, tensor in state.items():
        rule, match = _matching(key, rules)
        if rule is None or match is None:
            unknown.append(f"{key} {list(tensor.shape)}: no rule of this layout knows it")
        elif rule.ours is None:
            report.dropped[key] = rule.why
        else:
            name = rule.ours(match) if callable(rule.ours) else match.expand(rule.ours)
            ours[name] = rule.change(tensor) if rule.change else tensor
            report.taken[name] = key
            report.changed |= {name: rule.why} if rule.change else {}
    problems = unknown + _misfits(ours, module)
    if problems:
        raise ValueError(f"The weights do not fit {type(module).__name__}:\n  " + "\n  ".join(problems))
    return ours, report


def _matching(key: str, rules: Sequence[Rule]) -> tuple[Rule | None, re.Match[str] | None]:
    for rule in rules:
        match = re.fullmatch(rule.theirs, key)
        if match:
            return rule, match
    return None, None


def _misfits(ours: Mapping[str, Tensor], module: nn.Module) -> list[str]:
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
