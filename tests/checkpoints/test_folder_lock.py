"""Locks between processes: forks, which hold, die, or leave a child that has inherited the lock."""

import json
import os
import re
import socket
import time

import pytest

from featlift.checkpoints.folder_lock import HOLDER_FILE, FolderLock, FolderLockedError


def holder(folder, and_fork=0.0):
    """Fork a process that locks ``folder`` and sleeps; returns its id when it has the lock."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        lock = FolderLock(folder)
        if and_fork and os.fork() == 0:
            time.sleep(and_fork)
            os._exit(0)
        os.write(write, b"x")
        time.sleep(60)
        lock.release()
        os._exit(0)
    assert os.read(read, 1) == b"x"
    return pid


def kill(pid):
    os.kill(pid, 9)
    os.waitpid(pid, 0)


def test_the_second_process_is_given_the_first(tmp_path):
    pid = holder(tmp_path)
    with pytest.raises(FolderLockedError) as error:
        FolderLock(tmp_path)
    words = rf"{re.escape(str(tmp_path))} is being written by another run \(process {pid} on {socket.gethostname()}, since 20\d\d-"
    assert re.match(words, str(error.value))
    kill(pid)
    with FolderLock(tmp_path):
        assert json.loads((tmp_path / HOLDER_FILE).read_text())["pid"] == os.getpid()


def test_a_process_may_lock_twice_and_releases_at_the_last(tmp_path):
    first, second = FolderLock(tmp_path), FolderLock(tmp_path)
    first.release()
    assert (tmp_path / HOLDER_FILE).exists()
    pid = os.fork()
    if pid == 0:
        os._exit(0 if (tmp_path / HOLDER_FILE).exists() else 1)
    assert os.waitpid(pid, 0)[1] == 0
    second.release()
    assert not (tmp_path / HOLDER_FILE).exists()
    kill(holder(tmp_path))


def test_workers_of_a_killed_process_are_waited_for(tmp_path):
    kill(holder(tmp_path, and_fork=1.0))
    start = time.monotonic()
    with FolderLock(tmp_path):
        assert time.monotonic() - start < 20


def test_waiting(tmp_path):
    pid = holder(tmp_path)
    if os.fork() == 0:
        time.sleep(0.5)
        os.kill(pid, 9)
        os._exit(0)
    FolderLock(tmp_path, wait=20).release()
    os.waitpid(pid, 0)
    os.wait()


def test_a_holder_on_another_machine_is_named(tmp_path):
    pid = holder(tmp_path)
    (tmp_path / HOLDER_FILE).write_text(json.dumps({"pid": 1, "host": "elsewhere", "since": "today"}))
    with pytest.raises(FolderLockedError, match=r"process 1 on elsewhere, since today"):
        FolderLock(tmp_path)
    kill(pid)
