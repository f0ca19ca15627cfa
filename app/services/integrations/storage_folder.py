"""A local folder as an fsspec file system that opens only files inside the folder.

It opens files itself. `LocalFileSystem` would follow a link to any place, and wait for ever at a named pipe without a
writer (docs/adr/0009-storage-through-fsspec.md).
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
"""O_PATH, where the system has it, opens a folder that may be entered but not listed."""
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
"""O_NONBLOCK keeps the open from waiting at a named pipe."""
_MISSING_ERRNOS: Final = (errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO)


class OpenFile(FileIO):
    """A file that is open for reading; `size` is its size when it was opened."""

    size: int


class Folder(LocalFileSystem):
    """Files below `root`. Paths that leave it, also through a link, do not exist; links inside it are followed."""

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
            return _regular_file(_open_below(top, Path(path).resolve().relative_to(top).parts))
        except (ValueError, RuntimeError) as error:  # The path leaves the folder, or links form a circle.
            raise _missing() from error
        except OSError as error:
            raise (_missing() if error.errno in _MISSING_ERRNOS else error) from error


def _open_below(top: Path, names: Sequence[str]) -> int:
    """Open a path part by part and return the file's descriptor.

    `names` is the resolved path. A link that was put into it since then is not followed.
    """
    parent = os.open(top, _FOLDER)
    for remaining in range(len(names) - 1, -1, -1):
        try:
            child = os.open(names[-remaining - 1], _FOLDER if remaining else _FILE, dir_fd=parent)
        finally:
            os.close(parent)
        parent = child
    return parent


def _regular_file(descriptor: int) -> OpenFile:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise _missing()
    file = OpenFile(descriptor, "rb")
    file.size = status.st_size
    return file


def _missing() -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
