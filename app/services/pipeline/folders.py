"""Working folders below `PIPELINE_ROOT`: opened without following symbolic links, and used by one command at a time."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import pwd
import stat
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from app.services.pipeline.errors import BadFolder
from laneway.platform.errors import TaskSnoozed

LOCK_FOLDER: Final = ".locks"
"""The folder of the locks below the root; a working folder cannot have this name."""
FILES_FOLDER: Final = ".pipeline"
"""The folder, inside a working folder, of the files that the pipeline writes for commands."""
BUSY_SECONDS: Final = 5.0
"""Delay before a task tries a folder again that is in use."""
MAX_ENTRIES: Final = 200_000
"""The most files and folders of a working folder that are given to another user."""
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_REASONS: Final = {
    errno.ENOENT: "there is no such folder",
    errno.ENOTDIR: "a part of it is a symbolic link or not a folder",
    errno.ELOOP: "a part of it is a symbolic link",
    errno.EACCES: "the worker may not enter it",
}
_RETRYABLE_ERRNOS: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE})


@dataclass(frozen=True, slots=True)
class WorkingFolder:
    """An open folder that nobody else uses. The command's guard inherits both descriptors and thus keeps the lock."""

    path: Path
    descriptor: int
    lock: int

    def owner(self, other_than_root: tuple[int, int] | None) -> tuple[int, int] | None:
        """User and group that a command runs as; None keeps those of this process.

        That is the folder's owner. A folder of root is given to `other_than_root` first, with what is in it.
        Raises BadFolder if it holds too much for that.
        """
        if other_than_root is None:
            return None
        status = os.fstat(self.descriptor)
        if not status.st_uid:
            _give_away(self, other_than_root)
            return other_than_root
        try:
            return status.st_uid, pwd.getpwuid(status.st_uid).pw_gid
        except KeyError:
            return status.st_uid, status.st_gid or status.st_uid

    def write_file(self, name: str, text: str) -> Path:
        """Write a file for the command atomically, and return its path."""
        try:
            with suppress(FileExistsError):
                os.mkdir(FILES_FOLDER, dir_fd=self.descriptor)
            files = os.open(FILES_FOLDER, _FOLDER | os.O_NOFOLLOW, dir_fd=self.descriptor)
        except OSError as error:
            raise _folder_error(str(self.path / FILES_FOLDER), error) from error
        try:
            _write(files, name, text=text)
        except OSError as error:
            raise _folder_error(str(self.path / FILES_FOLDER / name), error) from error
        finally:
            os.close(files)
        return self.path / FILES_FOLDER / name


def _give_away(folder: WorkingFolder, to: tuple[int, int]) -> None:
    """Give files and folders of root to another user; the working folder comes last, so that a crash repeats it.

    Links are not followed. A file with several names may have one elsewhere, so it stays root's.
    """
    count = 0
    for _, folders, files, parent in os.fwalk(".", topdown=False, follow_symlinks=False, dir_fd=folder.descriptor):
        count += len(folders) + len(files)
        if count > MAX_ENTRIES:
            raise BadFolder(str(folder.path), f"it belongs to root and holds too much: chown -R it to user {to[0]}")
        for name in (*folders, *files):
            with suppress(FileNotFoundError):
                status = os.stat(name, dir_fd=parent, follow_symlinks=False)
                if not status.st_uid and (stat.S_ISDIR(status.st_mode) or status.st_nlink == 1):
                    os.chown(name, *to, dir_fd=parent, follow_symlinks=False)
    os.fchown(folder.descriptor, *to)


def _write(parent: int, name: str, *, text: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(f"{name}.new", dir_fd=parent)
    file = os.open(f"{name}.new", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644, dir_fd=parent)
    with os.fdopen(file, "w", encoding="utf-8", errors="replace") as handle:
        handle.write(text)
    os.replace(f"{name}.new", name, src_dir_fd=parent, dst_dir_fd=parent)


@contextmanager
def open_folder(root: Path, folder: str) -> Generator[WorkingFolder]:
    """Open and lock a working folder for the block. Raises BadFolder, and TaskSnoozed while another command uses it."""
    top = _open(str(root), None, folder)
    try:
        descriptor = _open_below(top, folder)
        try:
            lock = _lock(top, folder)
            try:
                yield WorkingFolder(root.resolve() / folder, descriptor, lock)
            finally:
                os.close(lock)
        finally:
            os.close(descriptor)
    finally:
        os.close(top)


def _open_below(top: int, folder: str) -> int:
    """Open the folder part by part, so that no link can be put into the path between check and open."""
    parent = os.dup(top)
    for part in folder.split("/"):
        try:
            if part in ("", ".", "..", LOCK_FOLDER):
                raise BadFolder(folder, f"{part!r} is not allowed as a folder's name")
            child = _open(part, parent, folder)
        finally:
            os.close(parent)
        parent = child
    return parent


def _open(name: str, parent: int | None, folder: str) -> int:
    try:
        return os.open(name, _FOLDER | (0 if parent is None else os.O_NOFOLLOW), dir_fd=parent)
    except OSError as error:
        if parent is None and error.errno == errno.ENOENT:
            raise BadFolder(folder, "PIPELINE_ROOT does not exist") from error
        raise _folder_error(folder, error) from error


def _lock(top: int, folder: str) -> int:
    name = f"{LOCK_FOLDER}/{hashlib.sha256(folder.encode()).hexdigest()[:32]}"
    try:
        with suppress(FileExistsError):
            os.mkdir(LOCK_FOLDER, dir_fd=top)
        lock = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600, dir_fd=top)
    except OSError as error:
        raise _folder_error(f"{folder} (its lock is below {LOCK_FOLDER})", error) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise TaskSnoozed(BUSY_SECONDS, f"the working folder {folder!r} is in use") from None
    except BaseException:
        os.close(lock)
        raise
    return lock


def _folder_error(folder: str, error: OSError) -> BadFolder | OSError:
    """The error to raise: the OSError itself if a retry may succeed, such as after a full disk, otherwise BadFolder."""
    if error.errno in _RETRYABLE_ERRNOS:
        return error
    return BadFolder(folder, _REASONS.get(error.errno or 0, error.strerror or "it cannot be opened"))
