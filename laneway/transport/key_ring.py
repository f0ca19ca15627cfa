"""The key ring: the secrets with which this installation signs messages.

It is a JSON file that every process of the installation has, on all its machines:

    {"keys": [{"id": "3f9c21", "secret": "base64 of 32 bytes", "created": "2026-11-29T10:00:00+00:00",
               "from": "2026-11-29T10:10:00+00:00"}]}

The current key is the one whose time `from` has come last; it signs. All keys of the ring verify. A new key gets a time
`from` in the future, so that every process has read it before the first one signs with it. Processes read the file
again within `CHECK_SECONDS` after it was changed.
"""

from __future__ import annotations

import binascii
import hmac
import json
import logging
import os
import re
import secrets
from base64 import b64decode, b64encode
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from time import monotonic
from typing import Any, Final

from laneway.engine.errors import LanewayError

logger = logging.getLogger(__name__)

SECRET_BYTES: Final = 32
CHECK_SECONDS: Final = 1.0
"""Seconds between two looks at the file."""
MOST_KEYS: Final = 32
MOST_BYTES: Final = 64 * 1024
_ID: Final = re.compile(r"[a-z0-9-]{1,32}")
_OTHERS_MAY_READ: Final = 0o007


class KeyRingError(LanewayError, init=False):
    """An error of the key ring."""


class KeyRingUnusable(KeyRingError):
    """The file of the key ring cannot be used."""

    template = "The key ring {path} cannot be used: {problem}."
    path: str
    problem: str


class UnknownKey(KeyRingError):
    """The ring does not have this key."""

    template = "The key ring has no key {id!r}; it has {known}."
    id: str
    known: str


class KeyInUse(KeyRingError):
    """A key that is needed cannot be removed."""

    template = "The key {id!r} cannot be removed: {reason}."
    id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Key:
    """One key. `starts_at`: from when on it is the current one, if no later key is."""

    id: str
    secret: bytes = field(repr=False)
    created_at: datetime
    starts_at: datetime

    def derived(self, purpose: str) -> bytes:
        """A key of 32 bytes for one purpose. From it, nobody can compute the secret or the key of another purpose."""
        return _derived(self.secret, purpose)


@lru_cache(maxsize=4 * MOST_KEYS)
def _derived(secret: bytes, purpose: str) -> bytes:
    return hmac.digest(secret, b"laneway " + purpose.encode(), "sha256")


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The keys, the one that starts last first."""

    keys: tuple[Key, ...]

    def get(self, id: str) -> Key | None:
        """The key with this id."""
        return next((key for key in self.keys if key.id == id), None)

    def current(self, now: datetime | None = None) -> Key:
        """The key that signs."""
        now = now or datetime.now(UTC)
        return next((key for key in self.keys if key.starts_at <= now), self.keys[-1])

    def rotated(self, *, overlap: timedelta) -> KeyRing:
        """The ring with a new key, which becomes the current one after the time `overlap`. Raises KeyInUse."""
        if len(self.keys) >= MOST_KEYS:
            raise KeyInUse(self.keys[-1].id, f"a ring has at most {MOST_KEYS} keys; remove one that is not used first")
        now = datetime.now(UTC).replace(microsecond=0)
        return _ring((_new_key(now, starts_at=now + overlap), *self.keys))

    def without(self, id: str) -> KeyRing:
        """The ring without a key. Raises UnknownKey; KeyInUse for the current key, and for one that is about to be."""
        key = self.get(id)
        if key is None:
            raise UnknownKey(id, ", ".join(known.id for known in self.keys))
        if key is self.current():
            raise KeyInUse(id, "it is the current key, which signs")
        return KeyRing(tuple(kept for kept in self.keys if kept.id != id))

    def write(self, path: Path) -> None:
        """Replace the file at once; only its owner may read it."""
        with _new_file(path, self) as new:
            new.replace(path)


def create_ring(path: Path) -> bool:
    """Make the file with one new key; False if it is there. Many processes may call this at once."""
    now = datetime.now(UTC).replace(microsecond=0)
    with _new_file(path, KeyRing((_new_key(now, starts_at=now),))) as new:
        try:
            path.hardlink_to(new)
        except FileExistsError:
            return False
    return True


def read_ring(path: Path) -> KeyRing:
    """Read a ring. Raises KeyRingUnusable, which says what to do."""
    try:
        status = path.stat()
        content = path.read_bytes() if status.st_size <= MOST_BYTES else b""
    except FileNotFoundError:
        raise KeyRingUnusable(str(path), "it does not exist; `laneway keys create` makes it") from None
    except OSError as error:
        raise KeyRingUnusable(str(path), error.strerror or str(error)) from None
    if status.st_mode & _OTHERS_MAY_READ:
        raise KeyRingUnusable(str(path), f"every user of the machine has access to it; run `chmod o-rwx {path}`")
    try:
        keys = tuple(_key(row) for row in json.loads(content)["keys"])
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise KeyRingUnusable(str(path), f"it is no key ring ({type(error).__name__})") from None
    if not 0 < len(keys) <= MOST_KEYS or len({key.id for key in keys}) != len(keys):
        raise KeyRingUnusable(str(path), f"it must have 1 to {MOST_KEYS} keys, each with an id of its own")
    return _ring(keys)


class KeyRingFile:
    """The ring of a file, as the file is now."""

    def __init__(self, path: Path) -> None:
        """Raises KeyRingUnusable."""
        self._path = path
        self._changed_at = self._stamp()
        self._ring = read_ring(path)
        self._check_at = monotonic() + CHECK_SECONDS

    @property
    def ring(self) -> KeyRing:
        """The keys. If the file has become unusable, the last ones that could be read."""
        if monotonic() >= self._check_at:
            self._check_at = monotonic() + CHECK_SECONDS
            self._read_again()
        return self._ring

    def _read_again(self) -> None:
        stamp = self._stamp()
        if stamp == self._changed_at:
            return
        self._changed_at = stamp
        try:
            self._ring = read_ring(self._path)
        except KeyRingUnusable as error:
            logger.error("%s The keys that were read before stay in use.", error)

    def _stamp(self) -> tuple[int, int, int]:
        try:
            status = self._path.stat()
        except OSError:
            return (0, 0, 0)
        return status.st_mtime_ns, status.st_ino, status.st_mode


@lru_cache(maxsize=16)
def ring_file(path: Path) -> KeyRingFile:
    """The one reader of this file in this process. Raises KeyRingUnusable."""
    return KeyRingFile(path)


@contextmanager
def _new_file(path: Path, ring: KeyRing) -> Generator[Path]:
    """A file beside `path` with the ring, which only its owner may read. It is deleted if it is not moved."""
    rows = [
        {
            "id": key.id,
            "secret": b64encode(key.secret).decode(),
            "created": key.created_at.isoformat(),
            "from": key.starts_at.isoformat(),
        }
        for key in ring.keys
    ]
    new = path.with_name(f"{path.name}.{secrets.token_hex(4)}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(json.dumps({"keys": rows}, indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        yield new
    except OSError as error:
        raise KeyRingUnusable(str(path), error.strerror or str(error)) from error
    finally:
        new.unlink(missing_ok=True)


def _new_key(now: datetime, *, starts_at: datetime) -> Key:
    return Key(secrets.token_hex(3), secrets.token_bytes(SECRET_BYTES), now, starts_at)


def _ring(keys: tuple[Key, ...]) -> KeyRing:
    return KeyRing(tuple(sorted(keys, key=lambda key: key.starts_at, reverse=True)))


def _key(row: dict[str, Any]) -> Key:
    id, secret = row["id"], _secret(row["secret"])
    if not _ID.fullmatch(id) or len(secret) < SECRET_BYTES:
        raise ValueError
    return Key(id, secret, _time(row["created"]), _time(row["from"]))


def _secret(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError from error


def _time(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    return time if time.tzinfo else time.replace(tzinfo=UTC)
