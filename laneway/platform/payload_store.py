"""Large payloads: they lie in a storage, and the row and the message of their task have a reference.

A reference is JSON, `{"$stored": "v1.<bytes>.<folder>/<sha256>-<random>"}`. The folder is a digest of the task's id.
The digest of the content is checked when it is read. The random part gives each submission an object of its own, so
that none is deleted that another row needs. An encrypted payload is stored encrypted. A payload is written before its
row, when nothing refuses it any more; a row that is never committed leaves it behind, until `sweep` deletes it.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, TypeGuard, cast

from laneway.platform.errors import PermanentError
from laneway.platform.object_store import ObjectStore, StorageUnavailable, object_store

STORED: Final = "$stored"
"""The one field of a reference. No payload may have a field of this name."""
REFERENCE_BYTES: Final = 200
"""A reference has fewer bytes."""
SWEPT_AFTER: Final = 86_400.0
"""Seconds after which a stored payload without a row is deleted."""
_FORM: Final = re.compile(r"v1\.(\d{1,12})\.([0-9a-f]{40}/[0-9a-f]{64}-[0-9a-f]{16})")


class PayloadLost(PermanentError):
    """The storage has not, or not any more, what a reference names."""

    title = "Payload lost"

    template = "The payload is not in the storage of large payloads (PAYLOAD_STORAGE): {problem}."
    problem: str


class PayloadStore:
    """Stores the payloads of a platform above a size."""

    def __init__(self, url: str | None = None, *, above: int = 0) -> None:
        """`above`: bytes of JSON up to which a payload stays in the message."""
        self.url, self._above = url, above

    def bytes_in_message(self, size: int) -> int:
        """How many bytes of a payload of this size are in its message."""
        return size if self.url is None or size <= self._above else REFERENCE_BYTES

    def stored(self, payload: dict[str, Any], *, id: str) -> dict[str, Any]:
        """Store the payload of a task if it is large, and return the reference; else the payload itself.

        Raises StorageUnavailable.
        """
        if self.url is None:
            return payload
        content = json.dumps(payload, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
        if len(content) <= self._above:
            return payload
        name = f"{folder_of(id)}/{hashlib.sha256(content).hexdigest()}-{secrets.token_hex(8)}"
        self.objects.write(name, content)
        return {STORED: f"v1.{len(content)}.{name}"}

    def drop(self, payload: dict[str, Any]) -> None:
        """Delete the object of a reference that no row has. While the storage is away, it is left for `sweep`."""
        if self.url is not None and is_stored(payload):
            with suppress(StorageUnavailable):
                self.objects.delete([name_of(payload)])

    def read(self, name: str) -> dict[str, Any]:
        """The payload of this name. Raises StorageUnavailable, PayloadLost."""
        content = self.objects.read(name)
        if content is None:
            raise PayloadLost(f"there is no object {name}")
        if hashlib.sha256(content).hexdigest() != name.partition("/")[2].partition("-")[0]:
            raise PayloadLost(f"the object {name} was changed")
        return cast("dict[str, Any]", json.loads(content))

    def sweep(self, used: Iterable[str], *, older_than: float = SWEPT_AFTER) -> int:
        """Delete what is older and is not in use by a row; returns the number. Raises StorageUnavailable."""
        if self.url is None:
            return 0
        kept = frozenset(used)
        unused = [name for name in self.objects.names(older_than=older_than) if name not in kept]
        self.objects.delete(unused)
        return len(unused)

    def forget(self, ids: Iterable[str]) -> None:
        """Delete the stored payloads of these tasks. Raises StorageUnavailable."""
        for id in ids if self.url is not None else ():
            self.objects.delete(self.objects.names(folder_of(id)))

    @cached_property
    def objects(self) -> ObjectStore:
        return object_store(self.url or "")


@dataclass
class _Process:
    store: PayloadStore


_process: Final = _Process(PayloadStore())


def use_store(store: PayloadStore) -> None:
    """Make this the store from which the process reads."""
    _process.store = store


def is_stored(payload: object) -> TypeGuard[dict[str, str]]:
    """Whether a payload is a reference."""
    if not isinstance(payload, dict) or len(cast("dict[Any, Any]", payload)) != 1:
        return False
    text = cast("dict[Any, Any]", payload).get(STORED)
    return isinstance(text, str) and _FORM.fullmatch(text) is not None


def name_of(reference: dict[str, str]) -> str:
    """The name of the object that a reference names."""
    found = _FORM.fullmatch(reference[STORED])
    return found[2] if found else ""


def folder_of(id: str) -> str:
    """The folder of the payloads of a task."""
    return hashlib.sha256(id.encode("utf-8", "replace")).hexdigest()[:40]


def fetched(payload: dict[str, Any]) -> dict[str, Any]:
    """The payload that a reference names; any other payload as it is. Raises StorageUnavailable, PayloadLost."""
    if not is_stored(payload):
        return payload
    if _process.store.url is None:
        raise PayloadLost("this process has no storage; set PAYLOAD_STORAGE as where the task was submitted")
    return _process.store.read(name_of(payload))
