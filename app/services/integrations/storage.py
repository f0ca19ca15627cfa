"""Object storage: a file system of fsspec, which is a local folder or an S3-compatible service (AWS S3, R2, MinIO).

An object is copied into a file of ours, a block at a time, and never more of it than is allowed. One that turns out to
have another size than was said at its opening is not taken.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast

from app.core.settings import DocumentSettings
from app.services.documents.extraction.errors import DocumentTooLarge, megabytes
from laneway.platform.errors import PermanentError, RetryableError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

BLOCK: Final = 1024 * 1024
"""Bytes that are read at once, and so the memory that a transfer takes; each block has to come in time."""
LONGEST_KEY: Final = 1024
"""Bytes of a key, as S3 has it."""
LASTING: Final = (errno.EINVAL, errno.EPERM, errno.ENOSYS, errno.ENAMETOOLONG, getattr(errno, "EREMCHG", errno.ENOENT))
"""Numbers of errors that will be the same the next time; s3fs has them for what a service says."""

Progress = Callable[[int, int], None]
"""Told how many bytes are there, and of how many."""


class BadObjectKey(PermanentError):
    """The key could lead out of the storage, or is none."""

    title = "Bad object key"

    key: str

    def __str__(self) -> str:
        return (
            f"The object key {self.key[:200]!r} is not allowed: parts separated by /, none of them empty, . or .., "
            f"no control characters or backslashes, at most {LONGEST_KEY} bytes."
        )


class ObjectMissing(PermanentError):
    """The storage has no such object."""

    status, title = 404, "Object missing"

    key: str

    def __str__(self) -> str:
        return f"The storage has no object {self.key[:200]!r}."


class StorageRefused(PermanentError):
    """The storage does not let us in, or has no such bucket: a matter of the settings."""

    title = "Storage refused"

    template = "The storage refused: {reason}. See the STORAGE_ settings."
    reason: str


class StorageUnavailable(RetryableError):
    """The storage is away, too slow, or busy."""

    title = "Storage unavailable"

    template = "The storage cannot be used now: {reason}."
    reason: str


class Storage:
    """Where objects are: a place in a file system, which is made when it is first used."""

    def __init__(self, make: Callable[[], AbstractFileSystem], place: str) -> None:
        self._make, self._place = make, place

    @cached_property
    def _files(self) -> AbstractFileSystem:
        return self._make()

    def fetch(self, key: str, into: BinaryIO, *, most: int, progress: Progress) -> int:
        """Copy an object into a file, and give back its size.

        Raises BadObjectKey, ObjectMissing, StorageRefused, DocumentTooLarge (permanent), StorageUnavailable (to be
        tried again), and what `progress` and `into` raise.
        """
        copied = 0
        with closing(self._blocks(check_key(key))) as blocks:
            for block, size in blocks:
                if size > most:
                    raise DocumentTooLarge(key.rpartition("/")[2], f"at most {megabytes(most)}")
                copied += len(block)
                into.write(block)
                progress(copied, size)
        into.flush()
        return copied

    def _blocks(self, key: str) -> Generator[tuple[bytes, int]]:
        """The blocks of an object, each with the size that it was said to have; never more than that, nor less."""
        sent, files = 0, cast("Any", self._files)
        with _named_errors(key), files.open(f"{self._place}/{key}", "rb") as source:
            size: int = source.size
            while sent <= size and (block := source.read(BLOCK)):
                sent += len(block)
                if sent <= size:
                    yield block, size
        if sent != size:
            raise StorageUnavailable(f"it sent {sent} bytes of an object of {size}")


def make_storage(settings: DocumentSettings, *, data_dir: Path) -> Storage:
    """The storage that is configured."""
    if settings.on_s3:
        return Storage(lambda: _bucket(settings), "/".join(part for part in settings.bucket_and_prefix if part))
    folder = str(settings.folder(data_dir))
    return Storage(lambda: _folder(folder), folder)


# Imported where they are used: fsspec takes a fifth of a second, s3fs a whole one, and few processes need them.


def _folder(root: str) -> AbstractFileSystem:
    from app.services.integrations.storage_folder import Folder

    return Folder(root)


def _bucket(settings: DocumentSettings) -> AbstractFileSystem:
    from app.services.integrations.storage_bucket import Bucket

    return Bucket(settings)


def check_key(key: str) -> str:
    """The key, if it is one. Raises BadObjectKey."""
    parts = key.split("/")
    bad = any(part in ("", ".", "..") or "\\" in part or not part.isprintable() for part in parts)
    if bad or len(key.encode("utf-8", "replace")) > LONGEST_KEY:
        raise BadObjectKey(key)
    return key


@contextmanager
def _named_errors(key: str) -> Generator[None]:
    """What a file system raises, by our names."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ObjectMissing(key) from error
    except PermissionError as error:
        raise StorageRefused(f"it does not let us read: {_said(error)}") from error
    except TimeoutError as error:
        raise StorageUnavailable("it did not answer in time") from error
    except OSError as error:
        raise (StorageRefused if error.errno in LASTING else StorageUnavailable)(_said(error)) from error


def _said(error: OSError) -> str:
    """Without a path of ours."""
    return (error.strerror or str(error) or type(error).__name__)[:300]
