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
with lock.hold(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    signal.pause()
"""


@contextmanager
def holder_of(folder: Path) -> Generator[subprocess.Popen[str]]:
    """Another process that holds the lock; killed at the end."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def test_a_second_holder_is_refused_with_the_process_id_of_the_first(tmp_path: Path) -> None:
    with (
        holder_of(tmp_path) as first,
        pytest.raises(AlreadyRunning, match=f"process {first.pid}") as refused,
        lock.hold(tmp_path),
    ):
        pass

    assert str(tmp_path) in str(refused.value)
    assert "laneway down" in str(refused.value)


def test_the_lock_is_free_after_its_holder_was_killed(tmp_path: Path) -> None:
    with holder_of(tmp_path) as first:
        assert lock.is_held(tmp_path)
        first.send_signal(signal.SIGKILL)

    assert not lock.is_held(tmp_path)
    with lock.hold(tmp_path):
        assert lock.holder(tmp_path) == os.getpid()


def test_the_lock_is_free_and_names_no_holder_after_its_block(tmp_path: Path) -> None:
    with lock.hold(tmp_path / "data"):
        assert lock.is_held(tmp_path / "data")

    assert not lock.is_held(tmp_path / "data")
    assert lock.holder(tmp_path / "data", wait_seconds=0) is None


def test_children_do_not_inherit_the_lock(tmp_path: Path) -> None:
    with lock.hold(tmp_path):
        child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], close_fds=False)
    try:
        with lock.hold(tmp_path):
            assert child.poll() is None
    finally:
        child.kill()
        child.wait()
