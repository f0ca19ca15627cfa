"""Encrypts payloads, results and steps: AES-256-GCM, with keys of the key ring.

A sealed value is JSON like any other, `{"$sealed": "v1.<key>.<base64 of nonce and ciphertext>"}`. So it passes through
rows, messages, journals and results unchanged, and whatever prints one of them (a log, Flower, `inspect`) prints this.
It is opened in two places only: where a task runs, and where somebody who may read the task asks for it.

The current key seals; every key of the ring opens. A value is bound to its key and to this form, not to its task: a
chain passes the result of one task to another.
"""

from __future__ import annotations

import hmac
import json
import os
import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeGuard, cast

from laneway.platform.errors import ConfigError, PlatformError
from laneway.platform.object_store import StorageUnavailable
from laneway.platform.payload_store import STORED, PayloadLost, fetched, is_stored
from laneway.transport.key_ring import Key, KeyRing, KeyRingUnusable, ring_file

if TYPE_CHECKING:  # `cryptography` is loaded at the first use
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    from laneway.platform.registry import TaskSpec

SEALED: Final = "$sealed"
"""The one field of a sealed value. No payload may have a field of this name."""
PURPOSE: Final = "payloads and results"
DIGEST_PURPOSE: Final = "fingerprints of payloads"
SHOWN: Final = "(encrypted)"
"""What events, `inspect` and Flower show as the arguments of a task whose payload is sealed."""
NONCE_BYTES: Final = 12
_FORM: Final = re.compile(r"v1\.([a-z0-9-]{1,32})\.([A-Za-z0-9+/]+={0,2})")
_to_json = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


class KeysMissing(ConfigError):
    """A value must be encrypted, and this process has no key ring."""

    template = (
        "{what} must be encrypted, and this process has no keys: set KEY_RING_FILE to the file of the key ring "
        "(`laneway keys create` makes it)."
    )
    what: str


class SealedUnreadable(PlatformError):
    """A sealed value cannot be opened by this process."""

    status, title, retryable = 503, "Encrypted", True

    template = "It is encrypted, and cannot be decrypted here: {problem}."
    problem: str


def is_sealed(value: object) -> TypeGuard[dict[str, str]]:
    """Whether a value has the form of a sealed one."""
    if not isinstance(value, dict) or len(cast("dict[Any, Any]", value)) != 1:
        return False
    text = cast("dict[Any, Any]", value).get(SEALED)
    return isinstance(text, str) and _FORM.fullmatch(text) is not None


def form_of(key: str) -> str:
    """What the text of every value has in it that is sealed with this key."""
    return f'"v1.{key}.'


class Sealer:
    """Seals what must be sealed, by the settings of a process."""

    def __init__(self, path: Path | None = None, *, everything: bool = False) -> None:
        """`path`: of the key ring. `everything`: all tasks, not only those that are declared as encrypted."""
        self._path, self.everything = path, everything
        if path is not None:
            _paths.setdefault(path)

    @property
    def older_keys(self) -> list[str]:
        """The ids of the keys that only open. Raises KeysMissing."""
        current = self._key("What is stored")
        return [key.id for key in ring_file(self._path).ring.keys if key is not current] if self._path else []

    def payload(self, spec: TaskSpec, value: dict[str, Any]) -> dict[str, Any]:
        """Seal the payload of a task if it must be encrypted. Raises KeysMissing."""
        return self.seal(value, what=f"The payload of the task {spec.name!r}") if self.seals(spec) else value

    def result(self, spec: TaskSpec, value: Any) -> Any:
        """Seal what a task returned, or the result of one of its steps, if it must be encrypted. Raises KeysMissing."""
        return self.seal(value, what=f"The result of the task {spec.name!r}") if self.seals(spec) else value

    def seals(self, spec: TaskSpec) -> bool:
        """Whether the payloads, results and steps of a task must be encrypted."""
        return self.everything or spec.encrypted

    def seal(self, value: Any, *, what: str) -> dict[str, str]:
        """Seal a JSON value. A sealed one stays as it is. Raises KeysMissing, which names `what`, and ValueError."""
        if is_sealed(value):
            return value
        key = self._key(what)
        nonce = os.urandom(NONCE_BYTES)
        data = nonce + _cipher(key).encrypt(nonce, _to_json(value).encode(), _bound_to(key.id))
        return {SEALED: f"v1.{key.id}.{b64encode(data).decode()}"}

    def again(self, value: Any) -> Any:
        """Encrypt each encrypted part of a value with the current key: chains pass results on as parts of a payload.

        Raises KeysMissing, SealedUnreadable.
        """
        if is_sealed(value):
            return self.seal(opened(value), what="A stored value")
        if isinstance(value, dict):
            return {name: self.again(each) for name, each in cast("dict[str, Any]", value).items()}
        if isinstance(value, list):
            return [self.again(each) for each in cast("list[Any]", value)]
        return value

    def keyed_digest(self, digest: str) -> str:
        """A digest that only somebody with the key can compare with a guessed value. Raises KeysMissing."""
        return _keyed_digest(self._key("A fingerprint"), digest)

    def _key(self, what: str) -> Key:
        if self._path is None:
            raise KeysMissing(what)
        return ring_file(self._path).ring.current()


@dataclass
class _Process:
    sealer: Sealer


_process: Final = _Process(Sealer())
_paths: dict[Path, None] = {}
"""The key rings of this process, in the order in which they came."""


def use_for_all(sealer: Sealer) -> None:
    """Make this the sealer of the process, for the values that are no task's."""
    _process.sealer = sealer


def sealed_for_all(value: Any) -> Any:
    """Seal a value that is no task's, if everything must be encrypted. Raises KeysMissing."""
    return (
        _process.sealer.seal(value, what="What workflows and webhooks store") if _process.sealer.everything else value
    )


def stored_digest(digest: str) -> str:
    """The digest of a value that is no task's, as it is stored: keyed, if everything must be encrypted."""
    return _process.sealer.keyed_digest(digest) if _process.sealer.everything else digest


def opened(value: Any) -> Any:
    """Open a value if it is sealed; any other value stays as it is. Raises SealedUnreadable."""
    if not is_sealed(value):
        return value
    found = _FORM.fullmatch(value[SEALED])
    id, text = found.groups() if found else ("", "")
    keys = [key for ring in _rings() if (key := ring.get(id))]
    if not keys:
        raise SealedUnreadable(f"the key {id!r} is not in the key ring of this process (KEY_RING_FILE)")
    for key in keys:
        content = _decrypted(key, text)
        if content is not None:
            return json.loads(content)
    raise SealedUnreadable(f"it was changed, or sealed with another key that has the id {id!r}")


def opened_payload(payload: dict[str, Any]) -> dict[str, Any]:
    """The payload as the task gets it: fetched if it is large, and opened.

    The results of encrypted tasks that are values of it, alone or in a list, are opened, too. They come from Celery's
    chains and chords; a submission with such a value is refused. Raises SealedUnreadable, StorageUnavailable,
    PayloadLost.
    """
    payload = fetched(payload)
    if not holds_sealed(payload):
        return payload
    given = {key: _opened_value(value) for key, value in payload.items() if key != SEALED}
    return {**cast("dict[str, Any]", opened({SEALED: payload[SEALED]})), **given} if SEALED in payload else given


def opened_call(args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Open the arguments of a call, as `opened_payload` does. Raises SealedUnreadable."""
    return [_opened_value(value) for value in args], opened_payload(kwargs)


def holds_sealed(payload: dict[str, Any]) -> bool:
    """Whether `opened_payload` would open something of this payload."""
    return SEALED in payload or any(_sealed_in(value) for value in payload.values())


def keyed_digests(digest: str) -> list[str]:
    """The keyed digest by each key of this process: a stored one may have been made with an older key."""
    return [_keyed_digest(key, digest) for ring in _rings() for key in ring.keys]


def opened_if_possible(value: Any) -> Any:
    """A value, with everything read in it that is sealed or stored and can be read here; the rest stays as it is.

    Raises StorageUnavailable.
    """
    if isinstance(value, list | tuple):
        return [opened_if_possible(each) for each in cast("Sequence[Any]", value)]
    if not isinstance(value, dict):
        return value
    fields = cast("dict[Any, Any]", value)
    if is_stored(fields):
        with suppress(PayloadLost):
            return opened_if_possible(fetched(fields))
    if SEALED not in fields:
        return {name: opened_if_possible(each) for name, each in fields.items()}
    try:
        found = opened({SEALED: fields[SEALED]})
    except SealedUnreadable:
        return fields
    rest = {name: opened_if_possible(each) for name, each in fields.items() if name != SEALED}
    return {**cast("dict[Any, Any]", found), **rest} if rest and isinstance(found, dict) else found


def shown(value: Any) -> Any:
    """A value for somebody who may read it: opened, or the reason why it cannot be."""
    try:
        return opened(value)
    except SealedUnreadable as error:
        return {SEALED: str(error)}


def shown_payload(payload: dict[str, Any]) -> dict[str, Any]:
    """A payload for somebody who may read it: as the task gets it, or the reason why it cannot be read."""
    try:
        return opened_payload(payload)
    except SealedUnreadable as error:
        return {SEALED: str(error)}
    except (StorageUnavailable, PayloadLost) as error:
        return {STORED: str(error)}


def _rings() -> Iterator[KeyRing]:
    """The key rings of this process that can be read."""
    for path in _paths:
        with suppress(KeyRingUnusable):
            yield ring_file(path).ring


def _sealed_in(value: Any) -> bool:
    return is_sealed(value) or (isinstance(value, list) and any(map(is_sealed, cast("list[Any]", value))))


def _opened_value(value: Any) -> Any:
    if isinstance(value, list):
        return [opened(each) for each in cast("list[Any]", value)]
    return opened(value)


def _decrypted(key: Key, text: str) -> bytes | None:
    """The content; None if it was sealed with another key, or was changed."""
    from cryptography.exceptions import InvalidTag

    try:
        data = b64decode(text, validate=True)
        return _cipher(key).decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], _bound_to(key.id))
    except (InvalidTag, Base64Error, ValueError):
        return None


def _keyed_digest(key: Key, digest: str) -> str:
    return hmac.digest(key.derived(DIGEST_PURPOSE), digest.encode(), "sha256").hex()


def _bound_to(key_id: str) -> bytes:
    return f"laneway v1.{key_id}".encode()


@lru_cache(maxsize=64)
def _cipher(key: Key) -> AESGCM:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(key.derived(PURPOSE))
