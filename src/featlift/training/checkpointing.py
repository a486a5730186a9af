"""Checkpoints of a stage: at any moment there is a whole one, whatever kills the process.

``<run>/checkpoint/<stage>/step-00000120/`` holds the tensors, written by ``torch.distributed.checkpoint`` (every
process its own share; readable by any number of processes), and ``progress.json``. It is written under another name
and renamed when complete.
"""

import json
import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp

from featlift.training import distributed
from featlift.training.learner import Learner

MAX_CHECKPOINTS = 2


def save_checkpoint(folder: Path, learners: Mapping[str, Learner], progress: Mapping[str, Any]) -> None:
    """Write the state of ``learners`` and ``progress`` (with its ``"step"``) below ``folder``, and remove all but the
    last two.
    """
    final = folder / f"step-{progress['step']:08d}"
    if final.exists():
        return
    writing = folder / f"writing-{final.name}"
    for name, learner in learners.items():
        _check_finite_parameters(name, learner, folder)
        distributed.broadcast_tensors(learner.module.buffers())
    if distributed.get_rank() == 0:
        shutil.rmtree(writing, ignore_errors=True)
        writing.mkdir(parents=True)
    distributed.barrier()
    _run_dcp(dcp.save, learners, writing)
    if distributed.get_rank() == 0:
        counts = {name: learner.scalar_state() for name, learner in learners.items()}
        (writing / "progress.json").write_text(json.dumps({**progress, "learners": counts}))
        writing.rename(final)
        _remove_old_checkpoints(folder)
    distributed.barrier()


def _check_finite_parameters(name: str, learner: Learner, folder: Path) -> None:
    """A loss can be finite and its gradient not; the parameters then are lost, and so would be the good checkpoint."""
    bad = [key for key, p in learner.trainable_parameters.items() if not bool(torch.isfinite(p.detach()).all())]
    if bad:
        raise FloatingPointError(
            f"{name} was not saved: {bad[0]} and {len(bad) - 1} more of its parameters are not finite. "
            f"{latest_checkpoint(folder) or 'No checkpoint'} is the last good state; try a lower rate, a longer warm-up or clip=10."
        )


def latest_checkpoint(folder: Path) -> Path | None:
    """The last complete checkpoint below ``folder``, or None."""
    return max(folder.glob("step-*"), default=None)


def read_progress(checkpoint: Path) -> dict[str, Any]:
    """What was written as ``progress`` into ``checkpoint``."""
    return json.loads((checkpoint / "progress.json").read_text())


def load_checkpoint(checkpoint: Path, learners: Mapping[str, Learner]) -> dict[str, Any]:
    """Bring ``learners`` into the state of ``checkpoint``; returns the progress.

    Raises:
        ValueError: if the checkpoint is of other learners.
    """
    progress = read_progress(checkpoint)
    if set(progress["learners"]) != set(learners):
        raise ValueError(
            f"{checkpoint} holds the learners {', '.join(sorted(progress['learners']))}, "
            f"but {', '.join(sorted(learners))} are trained now. "
            "Use another folder, or remove this checkpoint to train the stage anew."
        )
    for name, learner in learners.items():
        learner.load_scalar_state(progress["learners"][name])
    tensors = _run_dcp(dcp.load, learners, checkpoint)
    for name, learner in learners.items():
        learner.load_tensor_state(tensors[name])
    return progress


def _run_dcp(operation: Callable[..., Any], learners: Mapping[str, Learner], folder: Path) -> dict[str, Any]:
    """Save or fill the tensors of ``learners``; returns them."""
    tensors = {name: learner.tensor_state() for name, learner in learners.items()}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled")  # one process is the ordinary case
        operation(tensors, checkpoint_id=folder, no_dist=distributed.get_world_size() == 1)
    return tensors


def _remove_old_checkpoints(folder: Path) -> None:
    """Old checkpoints lose their name before they lose their files; what a killed process left half-done goes too."""
    for old in sorted(folder.glob("step-*"))[:-MAX_CHECKPOINTS]:
        old.rename(folder / f"removing-{old.name}")
    for rest in [*folder.glob("removing-*"), *folder.glob("writing-*")]:
        shutil.rmtree(rest)
