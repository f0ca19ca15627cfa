"""A local folder as a file system of fsspec, which opens what is within it and nothing else.

The opening is our own. That of `LocalFileSystem` follows a link wherever it leads, and waits for ever at a pipe that
nobody writes to (docs/adr/0009-storage-through-fsspec.md).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from io import FileIO
from pathlib import Path
from typing import Any, Final

from fsspec.implementations.local import LocalFileSystem

_FOLDER: Final = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW
"""O_PATH, where there is one, does with a folder that may be passed through and not listed."""
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
"""Not blocking: or a pipe would be waited at."""
_NOWHERE: Final = (errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO)


class OpenFile(FileIO):
    """A file that is open for reading; `size` is what it had then."""

    size: int


class Folder(LocalFileSystem):
    """Files below `root`. What leads out of it, also by a link, is not there; links within it are followed."""

    cachable = False

    def __init__(self, root: str) -> None:
        super().__init__()
        self._root = Path(root)

    def _open(self, path: str, mode: str = "rb", *_: Any, **__: Any) -> OpenFile:
        """Open a file for reading. Raises FileNotFoundError, NotADirectoryError, and any other OSError."""
        if mode != "rb":
            raise NotImplementedError(mode)
        try:
            top = self._root.resolve()
            return _regular(_descended(top, Path(path).resolve().relative_to(top).parts))
        except (ValueError, RuntimeError) as error:  # it leads out of the folder; links in a circle
            raise _missing() from error
        except OSError as error:
            raise (_missing() if error.errno in _NOWHERE else error) from error


def _descended(top: Path, names: Sequence[str]) -> int:
    """A descriptor of what these names lead to, one below the other.

    They are the path without its links: a link that has been put among them since is not followed.
    """
    at = os.open(top, _FOLDER)
    for left in range(len(names) - 1, -1, -1):
        try:
            below = os.open(names[-left - 1], _FOLDER if left else _FILE, dir_fd=at)
        finally:
            os.close(at)
        at = below
    return at


def _regular(descriptor: int) -> OpenFile:
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        os.close(descriptor)
        raise _missing()
    file = OpenFile(descriptor, "rb")
    file.size = found.st_size
    return file


def _missing() -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
