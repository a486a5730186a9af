"""The batches of a training stage, and what happens when a worker process of their loader is killed."""

import signal
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Protocol

Batch = tuple[Any, Any]
"""Images and targets."""

REMEDY = (
    "If the machine was out of memory, lower --data.num-workers, --data.batch-size or the image size. "
    "If shared memory was full, enlarge /dev/shm or set --data.num-workers 0."
)


class ResumableLoader(Protocol):
    """Endless stream of batches that can start at any step, such as `featlift.data.batches.ResumableDataLoader`."""

    def iter_from(self, step: int, rank: int = 0, world_size: int = 1) -> Iterator[Batch]:
        """Iterate over the batches ``(images, targets)`` of steps ``step``, ``step + 1``, … for ``rank`` of ``world_size``."""
        ...


class WorkerKilledError(ChildProcessError):
    """A worker process of a data loader was killed."""


class BatchStream:
    """Context that reads the batches of ``loader`` from ``step`` on, for ``rank`` of ``world_size``.

    PyTorch raises the death of a worker at any line of the main process, so also between the updates of two learners.
    In this context it is raised by `next` only, where the learners are those of a whole step.
    """

    def __init__(self, loader: ResumableLoader, step: int, rank: int = 0, world_size: int = 1) -> None:
        self.was_restarted = False
        self._loader, self._rank, self._world_size = loader, rank, world_size
        self._batches = loader.iter_from(step, rank, world_size)
        self._torch_handler: Any = None

    def __enter__(self) -> "BatchStream":
        self._defer_child_signal()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._batches = iter(())  # ends the workers
        if self._torch_handler is not None:
            signal.signal(signal.SIGCHLD, self._torch_handler)

    def next(self, step: int) -> Batch:
        """Return the batch of ``step``, the one after that of the last call.

        Raises:
            WorkerKilledError: If a worker process was killed.
            StopIteration: If the batches end.
        """
        try:
            return next(self._batches)
        except (RuntimeError, OSError, EOFError) as error:
            if not _is_worker_death(error):
                raise
            raise WorkerKilledError(
                f"A worker process of the data loader was killed before step {step}. {REMEDY}"
            ) from error
        finally:
            self._defer_child_signal()

    def restart(self, step: int) -> None:
        """Start the loader again with the batch of ``step``."""
        self.was_restarted = True
        self._batches = self._loader.iter_from(step, self._rank, self._world_size)

    def _defer_child_signal(self) -> None:
        """Switch off PyTorch's handler of SIGCHLD, which it installs when the first worker starts."""
        if not hasattr(signal, "SIGCHLD") or threading.current_thread() is not threading.main_thread():
            return
        handler = signal.getsignal(signal.SIGCHLD)
        if getattr(handler, "__module__", "") == "torch.utils.data._utils.signal_handling":
            self._torch_handler = handler
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _is_worker_death(error: Exception) -> bool:
    """Whether a process is gone; what a worker itself raised has its traceback in the message."""
    text = str(error)
    if "in DataLoader worker process" in text:
        return False
    return isinstance(error, (ConnectionError, EOFError, FileNotFoundError)) or "DataLoader worker" in text
