from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from laneway.server import lock
from laneway.server.errors import AlreadyRunning

HOLD = """
import pathlib, signal, sys
from laneway.server import lock
with lock.held(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    signal.pause()
"""


@contextmanager
def holder_of(folder: Path) -> Generator[subprocess.Popen[str]]:
    """Another process that holds the lock; killed in the end."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def test_a_second_holder_is_refused_and_told_who_the_first_is(tmp_path: Path) -> None:
    with (
        holder_of(tmp_path) as first,
        pytest.raises(AlreadyRunning, match=f"process {first.pid}") as refused,
        lock.held(tmp_path),
    ):
        pass

    assert str(tmp_path) in str(refused.value)
    assert "laneway down" in str(refused.value)


def test_a_holder_killed_with_9_leaves_the_lock_free(tmp_path: Path) -> None:
    with holder_of(tmp_path) as first:
        assert lock.is_held(tmp_path)
        first.send_signal(signal.SIGKILL)

    assert not lock.is_held(tmp_path)
    with lock.held(tmp_path):
        assert lock.holder(tmp_path) == os.getpid()


def test_the_lock_is_free_after_its_block_and_names_nobody(tmp_path: Path) -> None:
    with lock.held(tmp_path / "data"):
        assert lock.is_held(tmp_path / "data")

    assert not lock.is_held(tmp_path / "data")
    assert lock.holder(tmp_path / "data", wait_seconds=0) is None


def test_children_do_not_inherit_the_lock(tmp_path: Path) -> None:
    with lock.held(tmp_path):
        child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], close_fds=False)
    try:
        with lock.held(tmp_path):
            assert child.poll() is None
    finally:
        child.kill()
        child.wait()
