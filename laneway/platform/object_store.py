"""Where large payloads lie: a folder that all machines of the platform share, or an object storage by `fsspec`."""

from __future__ import annotations

import importlib
import os
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import cached_property
from pathlib import Path
from time import time
from typing import Any, Final, cast

from laneway.platform.errors import ConfigError, RetryableError

FOLDER: Final = "file://"
CONNECT_SECONDS: Final = 3
ANSWER_SECONDS: Final = 10
RETRY_SECONDS: Final = 5.0
ATTEMPTS: Final = 3


class StorageUnavailable(RetryableError):
    """The storage of large payloads cannot be used now."""

    title = "Payload storage unavailable"

    template = "The storage of large payloads (PAYLOAD_STORAGE) cannot be used: {reason}"
    reason: str

    @property
    def retry_after(self) -> float:
        return RETRY_SECONDS


class ObjectStore(ABC):
    """Named contents. Every method raises StorageUnavailable."""

    @abstractmethod
    def write(self, name: str, content: bytes) -> None:
        """Store a content, whole or not at all; one that is there is replaced and counts as new."""

    @abstractmethod
    def read(self, name: str) -> bytes | None:
        """Return a content; None if there is none of this name."""

    @abstractmethod
    def delete(self, names: Iterable[str]) -> None:
        """Delete contents; those that are not there are passed over."""

    @abstractmethod
    def names(self, folder: str | None = None, *, older_than: float = 0) -> Iterator[str]:
        """The names, `folder/name`, of the contents that were stored more than so many seconds ago."""


def object_store(url: str) -> ObjectStore:
    """The store at an address. Raises ConfigError for one that cannot be read."""
    scheme, found, path = url.partition("://")
    if not (scheme and found and path):
        raise ConfigError(f"PAYLOAD_STORAGE: {url!r} is no address such as file:///srv/payloads or s3://bucket/folder")
    if url.startswith(FOLDER):
        return FolderStore(Path(path))
    return FsspecStore(scheme, path.strip("/"))


class FolderStore(ObjectStore):
    """A folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, name: str, content: bytes) -> None:
        path = self._folder / name
        new = path.with_name(f"{path.name}.{secrets.token_hex(4)}.new")
        with _translated():
            try:
                with os.fdopen(_created(new), "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                new.replace(path)
            finally:
                new.unlink(missing_ok=True)

    def read(self, name: str) -> bytes | None:
        with _translated():
            try:
                return (self._folder / name).read_bytes()
            except FileNotFoundError:
                self._folder.stat()  # a folder that is not mounted has lost nothing
                return None

    def delete(self, names: Iterable[str]) -> None:
        with _translated():
            for name in names:
                path = self._folder / name
                path.unlink(missing_ok=True)
                with suppress(OSError):  # it has other files, or somebody else was faster
                    path.parent.rmdir()

    def names(self, folder: str | None = None, *, older_than: float = 0) -> Iterator[str]:
        before = time() - older_than
        with _translated():
            for path in list(self._folder.glob(f"{folder or '*'}/*")):
                if path.stat().st_mtime <= before:
                    yield path.relative_to(self._folder).as_posix()


class FsspecStore(ObjectStore):
    """An object storage, such as S3. Its credentials are those of the environment (AWS_ACCESS_KEY_ID, …)."""

    def __init__(self, scheme: str, root: str) -> None:
        self._scheme, self._root = scheme, root

    def write(self, name: str, content: bytes) -> None:
        with _translated():
            self._files.pipe_file(f"{self._root}/{name}", content)

    def read(self, name: str) -> bytes | None:
        with _translated():
            try:
                return cast("bytes", self._files.cat_file(f"{self._root}/{name}"))
            except FileNotFoundError:
                return None

    def delete(self, names: Iterable[str]) -> None:
        with _translated():
            for name in names:
                try:
                    self._files.rm_file(f"{self._root}/{name}")
                except FileNotFoundError:
                    continue

    def names(self, folder: str | None = None, *, older_than: float = 0) -> Iterator[str]:
        before = time() - older_than
        with _translated():
            root = f"{self._root}/{folder}" if folder else self._root
            found: dict[str, dict[str, Any]] = self._files.find(root, detail=True)
            for path, info in found.items():
                changed: Any = info.get("LastModified") or info.get("mtime") or info.get("created")
                if isinstance(changed, datetime) and changed.timestamp() <= before:
                    yield path.removeprefix(f"{self._root}/")

    @cached_property
    def _files(self) -> Any:
        try:
            fsspec: Any = importlib.import_module("fsspec")
        except ImportError as error:
            raise ConfigError("PAYLOAD_STORAGE needs an extra: pip install 'laneway[storage]'") from error
        limits = {"connect_timeout": CONNECT_SECONDS, "read_timeout": ANSWER_SECONDS, "retries": {"max_attempts": 2}}
        options: dict[str, Any] = {"config_kwargs": limits} if self._scheme == "s3" else {}
        make: Callable[..., Any] = fsspec.filesystem
        try:
            return make(self._scheme, use_listings_cache=False, **options)
        except (ValueError, ImportError) as error:
            raise ConfigError(f"PAYLOAD_STORAGE: {error}; pip install 'laneway[storage]' brings S3") from error


def _created(path: Path) -> int:
    """Create a file, and its folder; returns the descriptor. Another process may delete the empty folder meanwhile."""
    for _ in range(ATTEMPTS - 1):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with suppress(FileNotFoundError):
            return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)


@contextmanager
def _translated() -> Generator[None]:
    """Raise the errors of files and of storages as StorageUnavailable."""
    try:
        yield
    except OSError as error:
        raise StorageUnavailable(error.strerror or f"{type(error).__name__}: {error}") from error
    except Exception as error:
        if _is_of_storage(error):
            raise StorageUnavailable(f"{type(error).__name__}: {error}"[:300]) from error
        raise


def _is_of_storage(error: Exception) -> bool:
    """Whether a storage's own library raised the error. These classes have no common one that is ours to import."""
    return type(error).__module__.partition(".")[0] in {"aiobotocore", "aiohttp", "botocore", "fsspec", "s3fs", "gcsfs"}
