"""Object storage: a local folder, or an S3-compatible service (AWS S3, R2, MinIO); one contract for both.

An object is copied into a file of ours, a block at a time, and never more of it than is allowed: what anybody says of
its size is not believed.
"""

# fsspec and s3fs are untyped.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportPrivateUsage=false

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

from app.core.config import DocumentSettings
from app.core.errors import PermanentError, RetryableError
from app.services.extraction.errors import DocumentTooLarge, megabytes

BLOCK: Final = 1024 * 1024
"""Bytes that are read at once, and so the memory that a transfer takes; each block has to come in time."""
LONGEST_KEY: Final = 1024
"""Bytes of a key, as S3 has it."""
ATTEMPTS: Final = 2
"""At one request, when the service is busy; after that the task's own retries have their turn."""

Progress = Callable[[int, int | None], None]
"""Told how many bytes are there, and of how many if that is known."""


class BadObjectKey(PermanentError):
    """The key could lead out of the storage, or is none."""

    title = "Bad object key"

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key

    def __str__(self) -> str:
        return (
            f"The object key {self.key[:200]!r} is not allowed: parts separated by /, none of them empty, . or .., "
            f"no control characters or backslashes, at most {LONGEST_KEY} bytes."
        )


class ObjectMissing(PermanentError):
    """The storage has no such object."""

    status, title = 404, "Object missing"

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key

    def __str__(self) -> str:
        return f"The storage has no object {self.key[:200]!r}."


class StorageRefused(PermanentError):
    """The storage does not let us in, or has no such bucket: a matter of the settings."""

    title = "Storage refused"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"The storage refused: {self.reason}. See the STORAGE_ settings."


class StorageUnavailable(RetryableError):
    """The storage is away, too slow, or busy."""

    title = "Storage unavailable"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"The storage cannot be used now: {self.reason}."


class Storage(Protocol):
    """Where objects are."""

    def fetch(self, key: str, into: BinaryIO, *, most: int, progress: Progress) -> int:
        """Copy an object into a file, and give back its size.

        Raises BadObjectKey, ObjectMissing, StorageRefused, DocumentTooLarge (permanent), StorageUnavailable (to be
        tried again), and what `progress` raises.
        """
        ...


def make_storage(settings: DocumentSettings, *, data_dir: Path) -> Storage:
    """The storage that is configured."""
    return S3Storage(settings) if settings.on_s3 else LocalStorage(settings.folder(data_dir))


class LocalStorage:
    """A folder; keys are paths in it. What leads out of it, also by a link, is not there."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def fetch(self, key: str, into: BinaryIO, *, most: int, progress: Progress) -> int:
        """Copy an object into a file; see `Storage`."""
        with _opened(self._root, check_key(key)) as source:
            return _copy(iter(lambda: source.read(BLOCK), b""), into, key, most=most, progress=progress,
                         size=os.fstat(source.fileno()).st_size)  # fmt: skip


class S3Storage:
    """A bucket, or a prefix in it, of an S3-compatible service; connects when it is first used."""

    def __init__(self, settings: DocumentSettings) -> None:
        self._settings = settings
        self._bucket, self._prefix = settings.bucket_and_prefix

    def fetch(self, key: str, into: BinaryIO, *, most: int, progress: Progress) -> int:
        """Copy an object into a file; see `Storage`. One answer of the service, so that it is one object."""
        path = "/".join(part for part in (self._prefix, check_key(key)) if part)
        with _named_errors(key):
            files = self._files
            answer = self._call(files._call_s3, "get_object", Bucket=self._bucket, Key=path)
            body, size = answer["Body"], answer["ContentLength"]
            try:
                if size > most:
                    raise _too_large(key, most)
                copied = _copy(iter(lambda: self._call(_block, body), b""), into, key, most=most,
                               progress=progress, size=size)  # fmt: skip
            finally:
                files.loop.call_soon_threadsafe(body.close)
        if copied != size:
            raise StorageUnavailable(f"it sent {copied} of {size} bytes")
        return copied

    @cached_property
    def _files(self) -> Any:
        from s3fs import S3FileSystem  # only where it is used: it takes a second to import

        given, timeout = self._settings, self._settings.storage_timeout
        files = S3FileSystem(
            key=_secret(given.access_key_id), secret=_secret(given.secret_access_key), endpoint_url=given.endpoint_url,
            client_kwargs={"region_name": given.region or ("auto" if given.endpoint_url else "us-east-1")},
            config_kwargs={"connect_timeout": min(5, timeout), "read_timeout": timeout,
                           "retries": {"total_max_attempts": 1, "mode": "standard"}},
            use_listings_cache=False, skip_instance_cache=True,
        )  # fmt: skip
        files.retries = ATTEMPTS
        return files

    def _call(self, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """One call, which has to be over in time: a service may send so slowly that no socket ever times out."""
        from fsspec.asyn import sync

        return sync(self._files.loop, work, *args, timeout=self._settings.storage_timeout + 1, **kwargs)


async def _block(body: Any) -> bytes:
    """The next block, whole: what comes byte by byte is too slow, too."""
    parts, size = list[bytes](), 0
    while size < BLOCK and (part := await body.read(BLOCK - size)):
        parts.append(part)
        size += len(part)
    return b"".join(parts)


def check_key(key: str) -> str:
    """The key, if it is one. Raises BadObjectKey."""
    parts = key.split("/")
    bad = any(part in ("", ".", "..") or "\\" in part or not part.isprintable() for part in parts)
    if bad or len(key.encode("utf-8", "replace")) > LONGEST_KEY:
        raise BadObjectKey(key)
    return key


@contextmanager
def _opened(root: Path, key: str) -> Generator[BinaryIO]:
    """The file of a key, open; what was opened is what was looked at, and is within the folder."""
    try:
        path, top = (root / key).resolve(), root.resolve()
        if not path.is_relative_to(top):
            raise ObjectMissing(key)
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)  # a pipe would be waited at
    except (FileNotFoundError, NotADirectoryError, RuntimeError) as error:  # RuntimeError: links in a circle
        raise ObjectMissing(key) from error
    except PermissionError as error:
        raise StorageRefused(f"no permission to read the object {key[:200]!r}") from error
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO):
            raise ObjectMissing(key) from error
        raise StorageUnavailable(error.strerror or type(error).__name__) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode) or (root / key).resolve() != path:
        os.close(descriptor)
        raise ObjectMissing(key)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        yield file  # pyright: ignore[reportReturnType]  a raw file reads like any other


def _copy(blocks: Iterator[bytes], into: BinaryIO, key: str, *, most: int, progress: Progress, size: int | None) -> int:
    copied = 0
    for block in blocks:
        copied += len(block)
        if copied > most:
            raise _too_large(key, most)
        into.write(block)
        progress(copied, size)
    into.flush()
    return copied


def _too_large(key: str, most: int) -> DocumentTooLarge:
    return DocumentTooLarge(key.rpartition("/")[2], f"at most {megabytes(most)}")


@contextmanager
def _named_errors(key: str) -> Generator[None]:
    """What s3fs, botocore and aiohttp raise, by our names."""
    from aiohttp import ClientError as BrokenOff
    from botocore.exceptions import BotoCoreError, ParamValidationError

    try:
        yield
    except FileNotFoundError as error:
        if _code(error) == "NoSuchBucket":
            raise StorageRefused("there is no such bucket") from error
        raise ObjectMissing(key) from error
    except PermissionError as error:
        raise StorageRefused(f"it does not let us read: {error}"[:300]) from error
    except ParamValidationError as error:
        raise StorageRefused("the bucket's name is not valid") from error
    except TimeoutError as error:
        raise StorageUnavailable("it did not answer in time") from error
    except (BotoCoreError, BrokenOff, OSError) as error:
        if isinstance(error, OSError) and error.errno in _LASTING:
            raise StorageRefused(str(error)[:300]) from error
        raise StorageUnavailable(str(error)[:300]) from error


_LASTING: Final = (errno.EINVAL, errno.EPERM, errno.ENOSYS, errno.ENAMETOOLONG, getattr(errno, "EREMCHG", errno.ENOENT))
"""How s3fs numbers what will be the same the next time."""


def _code(error: BaseException) -> str | None:
    """The service's own name of an error."""
    answer: dict[str, Any] = getattr(error.__cause__, "response", None) or {}
    return answer.get("Error", {}).get("Code")


def _secret(value: Any) -> str | None:
    return value.get_secret_value() if value else None
