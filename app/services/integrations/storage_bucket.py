"""An S3-compatible service as a file system of fsspec, which streams an object and bounds each wait.

`S3FileSystem.open` asks for an object in parts, each a request that may last for ever when its bytes drip. Its own
streamed file, of `open_async`, is one answer and so one object; here it is read from synchronous code, against a clock
(docs/adr/0009-storage-through-fsspec.md).
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Generator
from contextlib import contextmanager
from io import RawIOBase
from typing import Any, Final

from aiohttp import ClientError as BrokenOff
from botocore.exceptions import BotoCoreError, ParamValidationError
from fsspec.asyn import sync
from pydantic import SecretStr
from s3fs import S3FileSystem

from app.core.settings import DocumentSettings

ATTEMPTS: Final = 2
"""At one request, when the service is busy; after that the task's own retries have their turn."""


class Bucket(S3FileSystem):
    """The service that the settings name; paths are `bucket/key`."""

    cachable = False  # by fsspec, for ever, under its secret

    def __init__(self, given: DocumentSettings) -> None:
        timeout = given.storage_timeout
        super().__init__(
            key=_secret(given.access_key_id),
            secret=_secret(given.secret_access_key),
            endpoint_url=given.endpoint_url,
            client_kwargs={"region_name": given.region or ("auto" if given.endpoint_url else "us-east-1")},
            config_kwargs={
                "connect_timeout": min(5, timeout),
                "read_timeout": timeout,
                "retries": {"total_max_attempts": 1, "mode": "standard"},
            },
            use_listings_cache=False,
        )
        self.retries = ATTEMPTS
        self.patience = timeout + 1

    def split_path(self, path: str) -> tuple[str, str, None]:
        """Bucket and key; a version is not read out of a key, which may hold any character."""
        bucket, _, key = path.partition("/")
        return bucket, key, None

    def _open(self, path: str, mode: str = "rb", *_: Any, **__: Any) -> Answer:
        """Ask for an object. Raises OSError, as `Answer` does."""
        if mode != "rb":
            raise NotImplementedError(mode)
        return Answer(self, path)


class Answer(RawIOBase):
    """One answer of the service, which is read to its end; `size` is what it says of itself.

    Whatever s3fs, botocore and aiohttp raise becomes an OSError: EINVAL for what will be the same the next time.
    """

    def __init__(self, files: Bucket, path: str) -> None:
        super().__init__()
        self._files = files
        with _as_os_errors():
            self._stream: Any = self._waited_for(files.open_async, path)
            self._waited_for(self._stream.read, 0)  # now it is asked for
        self.size: int = self._stream.size

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes, as many as were asked for unless it ends: what comes byte by byte is too slow, too."""
        with _as_os_errors():
            return self._waited_for(_whole, self._stream, size)

    def close(self) -> None:
        """Hang up."""
        if not self.closed:
            self._files.loop.call_soon_threadsafe(self._stream.r.close)
        super().close()

    def _waited_for(self, work: Callable[..., Any], *args: Any) -> Any:
        return sync(self._files.loop, work, *args, timeout=self._files.patience)


async def _whole(stream: Any, size: int) -> bytes:
    parts, left = list[bytes](), size
    while left and (part := await stream.read(left)):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


@contextmanager
def _as_os_errors() -> Generator[None]:
    try:
        yield
    except FileNotFoundError as error:
        if _code(error) == "NoSuchBucket":
            raise OSError(errno.EINVAL, "there is no such bucket") from error
        raise
    except KeyError as error:  # s3fs looks for the header
        raise OSError(errno.EINVAL, "it does not say how long the object is") from error
    except ParamValidationError as error:
        raise OSError(errno.EINVAL, "the bucket's name is not valid") from error
    except (BotoCoreError, BrokenOff) as error:
        raise ConnectionError(str(error)) from error


def _code(error: BaseException) -> str | None:
    """The service's own name of an error."""
    answer: dict[str, Any] = getattr(error.__cause__, "response", None) or {}
    return answer.get("Error", {}).get("Code")


def _secret(value: SecretStr | None) -> str | None:
    return value.get_secret_value() if value else None
