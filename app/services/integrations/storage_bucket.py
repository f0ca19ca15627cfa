"""An S3-compatible service as an fsspec file system that streams an object and bounds each wait.

`S3FileSystem.open` requests an object in parts, and each request may last for ever when its bytes arrive slowly. The
streamed file of `open_async` is one response and so one version of the object; here synchronous code reads it with a
time-out (docs/adr/0009-storage-through-fsspec.md).
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Generator
from contextlib import contextmanager
from io import RawIOBase
from typing import Any, Final

from aiohttp import ClientError
from botocore.exceptions import BotoCoreError, ParamValidationError
from fsspec.asyn import sync
from pydantic import SecretStr
from s3fs import S3FileSystem

from app.core.settings import DocumentSettings

ATTEMPTS: Final = 2
"""Attempts of one request when the service is busy; after that the task's own retries take over."""


class Bucket(S3FileSystem):
    """The configured service; paths are `bucket/key`."""

    cachable = False  # fsspec would keep the instance for ever, under a key that contains the secret.

    def __init__(self, settings: DocumentSettings) -> None:
        timeout = settings.storage_timeout
        super().__init__(
            key=_secret(settings.access_key_id),
            secret=_secret(settings.secret_access_key),
            endpoint_url=settings.endpoint_url,
            client_kwargs={"region_name": settings.region or ("auto" if settings.endpoint_url else "us-east-1")},
            config_kwargs={
                "connect_timeout": min(5, timeout),
                "read_timeout": timeout,
                "retries": {"total_max_attempts": 1, "mode": "standard"},
            },
            use_listings_cache=False,
        )
        self.retries = ATTEMPTS
        self.wait_seconds = timeout + 1

    def split_path(self, path: str) -> tuple[str, str, None]:
        """Bucket and key. A key may have any character, so no version is parsed from it."""
        bucket, _, key = path.partition("/")
        return bucket, key, None

    def _open(self, path: str, mode: str = "rb", *_: Any, **__: Any) -> ObjectStream:
        """Request an object. Raises OSError, as `ObjectStream` does."""
        if mode != "rb":
            raise NotImplementedError(mode)
        return ObjectStream(self, path)


class ObjectStream(RawIOBase):
    """One response of the service, read to its end; `size` is the size that the response reports.

    Every error of s3fs, botocore and aiohttp becomes an OSError, with EINVAL if a retry would fail the same way.
    """

    def __init__(self, files: Bucket, path: str) -> None:
        super().__init__()
        self._files = files
        with _translate_errors():
            self._stream: Any = self._run(files.open_async, path)
            self._run(self._stream.read, 0)  # This sends the request.
        self.size: int = self._stream.size

    def read(self, size: int = -1, /) -> bytes:
        """The next `size` bytes, fewer only at the end. One time-out covers them all: slow bytes do not extend it."""
        with _translate_errors():
            return self._run(_read_fully, self._stream, size)

    def close(self) -> None:
        """Close the connection."""
        if not self.closed:
            self._files.loop.call_soon_threadsafe(self._stream.r.close)
        super().close()

    def _run(self, work: Callable[..., Any], *args: Any) -> Any:
        return sync(self._files.loop, work, *args, timeout=self._files.wait_seconds)


async def _read_fully(stream: Any, size: int) -> bytes:
    parts, left = list[bytes](), size
    while left and (part := await stream.read(left)):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


@contextmanager
def _translate_errors() -> Generator[None]:
    try:
        yield
    except FileNotFoundError as error:
        if _service_code(error) == "NoSuchBucket":
            raise OSError(errno.EINVAL, "there is no such bucket") from error
        raise
    except KeyError as error:  # s3fs found no Content-Length header.
        raise OSError(errno.EINVAL, "it does not report the object's size") from error
    except ParamValidationError as error:
        raise OSError(errno.EINVAL, "the bucket's name is not valid") from error
    except (BotoCoreError, ClientError) as error:
        raise ConnectionError(str(error)) from error


def _service_code(error: BaseException) -> str | None:
    """The service's own error code."""
    response: dict[str, Any] = getattr(error.__cause__, "response", None) or {}
    return response.get("Error", {}).get("Code")


def _secret(value: SecretStr | None) -> str | None:
    return value.get_secret_value() if value else None
