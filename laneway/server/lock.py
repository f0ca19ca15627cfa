"""One `laneway up` per data folder: a file lock. The system frees it when its holder dies, however it dies."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from laneway.server.checks import make_folder
from laneway.server.errors import AlreadyRunning, FolderUnusable

FILE = "up.lock"
TRY_SECONDS = 0.3
"""`hold` tries for this long, because `is_held` also takes a free lock for a moment."""


@contextmanager
def hold(folder: Path) -> Generator[None]:
    """Hold the folder's lock, with our process id in the file. Raises AlreadyRunning."""
    file = _open(make_folder(folder) / FILE)
    try:
        deadline = time.monotonic() + TRY_SECONDS
        while not _try_lock(file):
            if time.monotonic() > deadline:
                raise AlreadyRunning(str(folder), holder(folder))
            time.sleep(0.02)
        os.ftruncate(file, 0)
        os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
        yield
        os.ftruncate(file, 0)
    finally:
        os.close(file)


def is_held(folder: Path) -> bool:
    """Whether a process holds the folder's lock now."""
    if not (folder / FILE).exists():
        return False
    file = _open(folder / FILE)
    try:
        return not _try_lock(file)
    finally:
        os.close(file)


def holder(folder: Path, *, wait_seconds: float = 1) -> int | None:
    """Return the process id in the lock file, or None. Wait for a holder that has not written its id yet."""
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            text = (folder / FILE).read_text("ascii")
        except (OSError, UnicodeDecodeError):
            text = ""
        if text.strip().isdigit():
            return int(text)
        if time.monotonic() > deadline:
            return None
        time.sleep(0.02)


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise FolderUnusable(str(path), error.strerror or type(error).__name__) from error


def _try_lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:  # the file system does not support locks
        raise FolderUnusable(FILE, error.strerror or type(error).__name__) from error
    return True
