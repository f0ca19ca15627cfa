"""Working folders: below `PIPELINE_ROOT`, reached without symbolic links, and used by one command at a time."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from app.services.pipeline.errors import BadFolder
from laneway.platform.errors import TaskSnoozed

LOCKS: Final = ".locks"
"""The folder of the locks, below the root; no working folder can have this name."""
OWN: Final = ".pipeline"
"""The folder, in a working folder, of what the platform hands to commands."""
BUSY_SECONDS: Final = 5.0
"""How long to wait before another look at a folder that is in use."""
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_REASONS: Final = {
    errno.ENOENT: "there is no such folder",
    errno.ENOTDIR: "a part of it is a symbolic link or no folder",
    errno.ELOOP: "a part of it is a symbolic link",
    errno.EACCES: "the worker may not enter it",
}
_PASSING: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE})


@dataclass(frozen=True, slots=True)
class WorkingFolder:
    """An open folder that nobody else uses. Both descriptors go on to the command's guard, which so keeps the lock."""

    path: Path
    descriptor: int
    lock: int

    def put(self, name: str, text: str) -> Path:
        """Write a file of the platform's for the command to read, whole or not at all; its path."""
        try:
            with suppress(FileExistsError):
                os.mkdir(OWN, dir_fd=self.descriptor)
            own = os.open(OWN, _FOLDER | os.O_NOFOLLOW, dir_fd=self.descriptor)
        except OSError as error:
            raise _bad(str(self.path / OWN), error) from error
        try:
            _write(own, name, text=text)
        except OSError as error:
            raise _bad(str(self.path / OWN / name), error) from error
        finally:
            os.close(own)
        return self.path / OWN / name


def _write(at: int, name: str, *, text: str) -> None:
    file = os.open(f"{name}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o644, dir_fd=at)
    with os.fdopen(file, "w", encoding="utf-8", errors="replace") as handle:
        handle.write(text)
    os.replace(f"{name}.new", name, src_dir_fd=at, dst_dir_fd=at)


@contextmanager
def opened(root: Path, folder: str) -> Generator[WorkingFolder]:
    """A working folder, while the block lasts. Raises BadFolder; TaskSnoozed while another command is in it."""
    top = _opened(str(root), None, folder)
    try:
        descriptor = _walked(top, folder)
        try:
            lock = _locked(top, folder)
            try:
                yield WorkingFolder(root / folder, descriptor, lock)
            finally:
                os.close(lock)
        finally:
            os.close(descriptor)
    finally:
        os.close(top)


def _walked(top: int, folder: str) -> int:
    """Part by part, so that nothing can be put in the way between looking and opening."""
    here = os.dup(top)
    for part in folder.split("/"):
        try:
            if part in ("", ".", "..", LOCKS):
                raise BadFolder(folder, f"{part!r} is no name of a folder")
            below = _opened(part, here, folder)
        finally:
            os.close(here)
        here = below
    return here


def _opened(name: str, at: int | None, folder: str) -> int:
    try:
        return os.open(name, _FOLDER | (0 if at is None else os.O_NOFOLLOW), dir_fd=at)
    except OSError as error:
        if at is None and error.errno == errno.ENOENT:
            raise BadFolder(folder, "PIPELINE_ROOT does not exist") from error
        raise _bad(folder, error) from error


def _locked(top: int, folder: str) -> int:
    name = f"{LOCKS}/{hashlib.sha256(folder.encode()).hexdigest()[:32]}"
    try:
        with suppress(FileExistsError):
            os.mkdir(LOCKS, dir_fd=top)
        lock = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600, dir_fd=top)
    except OSError as error:
        raise _bad(f"{folder} (its lock is below {LOCKS})", error) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise TaskSnoozed(BUSY_SECONDS, f"the working folder {folder!r} is in use") from None
    except BaseException:
        os.close(lock)
        raise
    return lock


def _bad(folder: str, error: OSError) -> BadFolder | OSError:
    """The error as it is to be told; a full disk is tried again."""
    if error.errno in _PASSING:
        return error
    return BadFolder(folder, _REASONS.get(error.errno or 0, error.strerror or "it cannot be opened"))
