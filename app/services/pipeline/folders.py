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

from app.core.errors import TaskSnoozed
from app.services.pipeline.errors import BadFolder

LOCKS: Final = ".locks"
"""The folder of the locks, below the root; no working folder can have this name."""
OWN: Final = ".pipeline"
"""The folder, in a working folder, of what the platform hands to commands."""
BUSY_SECONDS: Final = 5.0
"""How long to wait before another look at a folder that is in use."""
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_REASONS: Final = {
    errno.ENOENT: "there is no such folder", errno.ENOTDIR: "a part of it is a symbolic link or no folder",
    errno.ELOOP: "a part of it is a symbolic link", errno.EACCES: "the worker may not enter it",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class WorkingFolder:
    """An open folder that nobody else uses. Both descriptors go on to the command's guard, which so keeps the lock."""

    path: Path
    descriptor: int
    lock: int

    def put(self, name: str, text: str) -> Path:
        """Write a file of the platform's for the command to read, whole or not at all; its path."""
        with suppress(FileExistsError):
            os.mkdir(OWN, dir_fd=self.descriptor)
        try:
            own = os.open(OWN, _FOLDER | os.O_NOFOLLOW, dir_fd=self.descriptor)
        except OSError as error:
            raise BadFolder(str(self.path / OWN), _reason(error)) from error
        try:
            file = os.open(f"{name}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o644, dir_fd=own)
            with os.fdopen(file, "w", encoding="utf-8", errors="replace") as handle:
                handle.write(text)
            os.replace(f"{name}.new", name, src_dir_fd=own, dst_dir_fd=own)
        finally:
            os.close(own)
        return self.path / OWN / name


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
        reason = "PIPELINE_ROOT does not exist" if at is None and error.errno == errno.ENOENT else _reason(error)
        raise BadFolder(folder, reason) from error


def _locked(top: int, folder: str) -> int:
    with suppress(FileExistsError):
        os.mkdir(LOCKS, dir_fd=top)
    name = f"{LOCKS}/{hashlib.sha256(folder.encode()).hexdigest()[:32]}"
    lock = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600, dir_fd=top)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise TaskSnoozed(BUSY_SECONDS, f"the working folder {folder!r} is in use") from None
    except BaseException:
        os.close(lock)
        raise
    return lock


def _reason(error: OSError) -> str:
    return _REASONS.get(error.errno or 0, error.strerror or "it cannot be opened")
