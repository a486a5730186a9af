"""The peak rises with allocated memory, and falls after a reset."""

from mmap import mmap

import pytest
import torch

from featlift.training import memory

CPU = torch.device("cpu")
MEGABYTE = 2**20


def test_the_peak_counts_released_memory_until_it_is_reset():
    memory.reset_peak_memory(CPU)
    before = memory.read_peak_memory(CPU)
    with mmap(
        -1, 64 * MEGABYTE
    ) as held:  # pages of its own: an allocator may hand out memory that the process already has
        torch.frombuffer(held, dtype=torch.uint8).fill_(1)
    after = memory.read_peak_memory(CPU)
    assert 48 * MEGABYTE < after - before < 128 * MEGABYTE
    if not memory.PROC_CLEAR_REFS.exists():
        pytest.skip("only Linux can reset the peak")
    memory.reset_peak_memory(CPU)
    assert memory.read_peak_memory(CPU) < after - 32 * MEGABYTE


def test_without_proc_status_the_peak_comes_from_getrusage(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "PROC_STATUS", tmp_path / "none")
    assert 10 * MEGABYTE < memory.read_peak_memory(CPU) < 2**40
