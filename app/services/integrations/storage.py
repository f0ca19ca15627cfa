"""Object storage on an fsspec file system: a local folder or an S3-compatible service (AWS S3, R2, MinIO).

An object is copied into a local file block by block, and never more of it than allowed. An object whose size differs
from the one reported when it was opened is rejected.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast

from app.core.settings import DocumentSettings
from laneway.platform.errors import PermanentError, RetryableError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

BLOCK: Final = 1024 * 1024
"""Bytes of one read, which limits the memory of a transfer. The time-out applies to each block."""
MAX_KEY_BYTES: Final = 1024
"""S3's limit for a key."""
PERMANENT_ERRNOS: Final = (
    errno.EINVAL,
    errno.EPERM,
    errno.ENOSYS,
    errno.ENAMETOOLONG,
    getattr(errno, "EREMCHG", errno.ENOENT),
)
"""Error numbers of permanent errors; s3fs maps a service's error codes to them."""

Progress = Callable[[int, int], None]
"""Called with the number of copied bytes and the total."""


class BadObjectKey(PermanentError):
    """The key is malformed, or could lead out of the storage."""

    title = "Bad object key"

    key: str

    def __str__(self) -> str:
        return (
            f"The object key {self.key[:200]!r} is not allowed: parts separated by /, none of them empty, . or .., "
            f"no control characters or backslashes, at most {MAX_KEY_BYTES} bytes."
        )


class ObjectMissing(PermanentError):
    """The storage has no such object."""

    status, title = 404, "Object missing"

    key: str

    def __str__(self) -> str:
        return f"The storage has no object {self.key[:200]!r}."


class ObjectTooLarge(PermanentError):
    """The object is larger than allowed."""

    status, title = 413, "Object too large"

    template = "The object {key!r} is larger than {limit} bytes."
    key: str
    limit: int


class StorageRefused(PermanentError):
    """The storage refuses access, or has no such bucket: check the settings."""

    title = "Storage refused"

    template = "The storage refused: {reason}. See the STORAGE_ settings."
    reason: str


class StorageUnavailable(RetryableError):
    """The storage is unreachable, too slow, or busy."""

    title = "Storage unavailable"

    template = "The storage cannot be used now: {reason}."
    reason: str


class Storage:
    """Objects below `root` in a file system, which is created at its first use."""

    def __init__(self, make: Callable[[], AbstractFileSystem], root: str) -> None:
        self._make, self._root = make, root

    @cached_property
    def _files(self) -> AbstractFileSystem:
        return self._make()

    def fetch(self, key: str, into: BinaryIO, *, max_bytes: int, progress: Progress) -> int:
        """Copy an object into a file and return its size in bytes.

        Raises BadObjectKey, ObjectMissing, ObjectTooLarge and StorageRefused (permanent), StorageUnavailable
        (retryable), and the errors of `progress` and `into`.
        """
        copied = 0
        with closing(self._blocks(check_key(key))) as blocks:
            for block, size in blocks:
                if size > max_bytes:
                    raise ObjectTooLarge(key[:200], max_bytes)
                copied += len(block)
                into.write(block)
                progress(copied, size)
        into.flush()
        return copied

    def _blocks(self, key: str) -> Generator[tuple[bytes, int]]:
        """The blocks of an object, each with the object's reported size. Raises if the real size differs from it."""
        received, files = 0, cast("Any", self._files)
        with _translate_errors(key), files.open(f"{self._root}/{key}", "rb") as source:
            size: int = source.size
            while received <= size and (block := source.read(BLOCK)):
                received += len(block)
                if received <= size:
                    yield block, size
        if received != size:
            raise StorageUnavailable(f"it sent {received} bytes of an object of {size}")


def make_storage(settings: DocumentSettings, *, data_dir: Path) -> Storage:
    """Make the storage that the settings configure."""
    if settings.on_s3:
        return Storage(lambda: _bucket(settings), "/".join(part for part in settings.bucket_and_prefix if part))
    folder = str(settings.folder(data_dir))
    return Storage(lambda: _folder(folder), folder)


# Imported where they are used: fsspec takes 0.2 s to import, s3fs 1 s, and few processes need them.


def _folder(root: str) -> AbstractFileSystem:
    from app.services.integrations.storage_folder import Folder

    return Folder(root)


def _bucket(settings: DocumentSettings) -> AbstractFileSystem:
    from app.services.integrations.storage_bucket import Bucket

    return Bucket(settings)


def check_key(key: str) -> str:
    """Return a valid key unchanged. Raises BadObjectKey."""
    parts = key.split("/")
    bad = any(part in ("", ".", "..") or "\\" in part or not part.isprintable() for part in parts)
    if bad or len(key.encode("utf-8", "replace")) > MAX_KEY_BYTES:
        raise BadObjectKey(key)
    return key


@contextmanager
def _translate_errors(key: str) -> Generator[None]:
    """Turn the errors of a file system into ours."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ObjectMissing(key) from error
    except PermissionError as error:
        raise StorageRefused(f"access denied: {_reason(error)}") from error
    except TimeoutError as error:
        raise StorageUnavailable("it did not answer in time") from error
    except OSError as error:
        raise (StorageRefused if error.errno in PERMANENT_ERRNOS else StorageUnavailable)(_reason(error)) from error


def _reason(error: OSError) -> str:
    """The error's text without a local path."""
    return (error.strerror or str(error) or type(error).__name__)[:300]
