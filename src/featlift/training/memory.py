"""Peak memory of a training stage."""

import sys
from pathlib import Path

import torch

PROC_STATUS, PROC_CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def reset_peak_memory(device: torch.device) -> None:
    """Reset the peak that `read_peak_memory` reports (GPUs, and CPUs under Linux; elsewhere nothing happens)."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif PROC_CLEAR_REFS.exists():
        try:
            PROC_CLEAR_REFS.write_text("5")
        except OSError:  # containers may forbid it; the peak is then that of the whole process
            return


def read_peak_memory(device: torch.device) -> int:
    """Return the peak memory in bytes: on a GPU PyTorch's peak allocation, on a CPU the peak resident memory of the Python process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if PROC_STATUS.exists():
        lines = dict(line.split(":", 1) for line in PROC_STATUS.read_text().splitlines() if ":" in line)
        if "VmHWM" in lines:
            return 1024 * int(lines["VmHWM"].split()[0])
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
