"""Signatures of messages: a worker runs only what a process with a key of the ring has sent.

The signature is the first field of the line of JSON before a message's body (`codec.py`), `{"s":"<key>:<signature>",…`.
It is HMAC-SHA256, cut to 16 bytes (RFC 2104, section 5), over the queue and everything of the message that decides
about execution: task id, name, arguments, headers and properties (expiry, retries, callbacks), ordering key,
uniqueness, limit of deliveries, due time, and whether the sender has checked the arguments. It does not cover what the
engine itself changes: the message's id, its score, its deliveries and attempts. Nor the priority, which only orders
messages.

A broadcast (control command or event) carries the time of its signature, too. It is refused when it is older than
`LONGEST_SECONDS`, and a control command when it comes a second time.

An older version reads signed messages: it ignores the field.
"""

from __future__ import annotations

import hmac
import json
import re
from base64 import urlsafe_b64encode
from dataclasses import replace
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from time import time
from typing import Any, Final

from laneway.engine.flow_fields import flow_to_json
from laneway.engine.message import Message
from laneway.transport.key_ring import KeyRingFile, ring_file

RING_OPTION: Final = "key_ring"
"""The transport option with the path of the key ring."""
SIGNING_OPTION: Final = "signing"
"""The transport option with the `Signing`."""
REASON: Final = "not signed by us"
"""The reason of the dead letter of a message whose signature is missing or wrong."""
PURPOSE: Final = "message signature"
LONGEST_SECONDS: Final = 60.0
"""The most seconds between the signature of a broadcast and its arrival, by the clocks of the two machines."""
MOST_SEEN: Final = 10_000
"""Control commands that are remembered, so that a copy of one is not carried out."""
CONTROL: Final = ".pidbox"
"""The end of the name of an exchange for control commands."""

_BYTES: Final = 16
_START: Final = b'{"s":"'
_SIGNATURE: Final = re.compile(rb'\{"s":"([a-z0-9-]{1,32}):([A-Za-z0-9_-]{22})"(?:,|(?=\}))')
_DATED: Final = re.compile(rb'\{"s":"([a-z0-9-]{1,32}):(\d{1,12}):([A-Za-z0-9_-]{22})",')
_to_json = json.JSONEncoder(separators=(",", ":")).encode


class Signing(StrEnum):
    """What is done with signatures.

    `SIGN`: messages are signed, and nothing is refused, while processes that do not sign are still running. `REQUIRE`:
    messages without a valid signature are refused.
    """

    OFF = "off"
    SIGN = "sign"
    REQUIRE = "require"


class NotSigned(ValueError):
    """A message has no signature, or a wrong one."""


class Signer:
    """Signs nothing and accepts everything: the signer of an installation that does not sign."""

    is_required = False

    def sign(self, queue: str, message: Message) -> Message:
        """The message with its signature for this queue."""
        del queue
        return message

    def check(self, queue: str, message: Message) -> None:
        """Raise NotSigned, which says why, for a message that must not run."""

    def is_ours(self, queue: str, message: Message) -> bool:
        """Whether the message may run."""
        try:
            self.check(queue, message)
        except NotSigned:
            return False
        return True

    def sign_broadcast(self, exchange: str, payload: str) -> str:
        """The payload, which is JSON, with its signature."""
        del exchange
        return payload

    def check_broadcast(self, exchange: str, payload: bytes, *, receiver: str) -> None:
        """Raise NotSigned for a broadcast that must be ignored. `receiver`: the queue that gets it."""

    def sign_text(self, purpose: str, text: str) -> str | None:
        """The signature of a text that is kept outside of messages; None without keys."""
        del purpose, text
        return None

    def check_text(self, purpose: str, text: str, signature: str | None) -> None:
        """Raise NotSigned for a text with a missing or wrong signature."""


class RingSigner(Signer):
    """Signs with the current key of a ring, and verifies with all its keys."""

    def __init__(self, ring: KeyRingFile, *, required: bool) -> None:
        self._file, self.is_required = ring, required
        self._seen: dict[tuple[str, bytes], float] = {}

    def sign(self, queue: str, message: Message) -> Message:
        """The message with its signature for this queue, in place of one that it may have."""
        unsigned = unsigned_body(message.body)
        key = self._file.ring.current()
        head = f'{{"s":"{key.id}:{_mac(key.derived(PURPOSE), _covered(queue, message, unsigned))}"'.encode()
        if unsigned[:1] == b"{":
            return replace(message, body=head + b"," + unsigned[1:])
        return replace(message, body=head + b"}" + unsigned)

    def check(self, queue: str, message: Message) -> None:
        """Raise NotSigned, which says why, for a message that must not run."""
        if not self.is_required:
            return
        found = _SIGNATURE.match(message.body)
        if found is None:
            raise NotSigned(
                "It has no signature: a process without the key ring has sent it, or it was put into the broker by "
                "other means. It was not run."
            )
        data = _covered(queue, message, unsigned_body(message.body))
        self._verify(found[1].decode(), found[2], data, "It was not run.")

    def sign_broadcast(self, exchange: str, payload: str) -> str:
        """The payload, which is JSON, with its signature and the time of it."""
        key, now = self._file.ring.current(), int(time())
        mac = _mac(key.derived(PURPOSE), _dated(exchange, now, payload.encode()))
        return f'{{"s":"{key.id}:{now}:{mac}",{payload[1:]}'

    def check_broadcast(self, exchange: str, payload: bytes, *, receiver: str) -> None:
        """Raise NotSigned for a broadcast that must be ignored. `receiver`: the queue that gets it."""
        if not self.is_required:
            return
        found = _DATED.match(payload)
        if found is None:
            raise NotSigned("it has no signature")
        signed_at = int(found[2])
        unsigned = b"{" + payload[found.end() :]
        self._verify(found[1].decode(), found[3], _dated(exchange, signed_at, unsigned), "It was ignored.")
        age = time() - signed_at
        if abs(age) > LONGEST_SECONDS:
            raise NotSigned(f"it was signed {age:.0f} s ago: it is a copy, or the clocks of the machines differ")
        if exchange.endswith(CONTROL):
            self._note(receiver, found[3])

    def sign_text(self, purpose: str, text: str) -> str:
        """The signature of a text that is kept outside of messages."""
        key = self._file.ring.current()
        return f"{key.id}:{_mac(key.derived(PURPOSE), _purposed(purpose, text))}"

    def check_text(self, purpose: str, text: str, signature: str | None) -> None:
        """Raise NotSigned for a text with a missing or wrong signature."""
        if not self.is_required:
            return
        id, _, mac = (signature or "").partition(":")
        if not mac:
            raise NotSigned("It has no signature.")
        self._verify(id, mac.encode(), _purposed(purpose, text), "It was not used.")

    def _note(self, receiver: str, mac: bytes) -> None:
        now = time()
        if len(self._seen) >= MOST_SEEN:
            recent = {seen: at for seen, at in self._seen.items() if now - at <= 2 * LONGEST_SECONDS}
            self._seen = recent if len(recent) < MOST_SEEN else {}
        if (receiver, mac) in self._seen:
            raise NotSigned("it is a copy of a control command that was carried out before")
        self._seen[receiver, mac] = now

    def _verify(self, id: str, mac: bytes, data: bytes, consequence: str) -> None:
        key = self._file.ring.get(id)
        if key is None:
            raise NotSigned(
                f"It is signed with the key {id!r}, which the key ring does not have: the key was removed, or another "
                f"installation has sent it. {consequence}"
            )
        if not hmac.compare_digest(_mac(key.derived(PURPOSE), data).encode(), mac):
            raise NotSigned(
                f"Its signature with the key {id!r} is wrong: it was changed after it was signed, or moved here from "
                f"another queue. {consequence}"
            )


NO_SIGNATURES: Final = Signer()
"""The signer of an installation that does not sign."""


def signer_of(transport_options: dict[str, Any]) -> Signer:
    """The signer of a Celery app, by its transport options. Raises KeyRingUnusable, and ValueError for no `Signing`."""
    path, signing = transport_options.get(RING_OPTION), transport_options.get(SIGNING_OPTION)
    if path is None or signing == Signing.OFF:
        return NO_SIGNATURES
    return _ring_signer(Path(path), Signing(signing or Signing.REQUIRE))


@lru_cache(maxsize=16)
def _ring_signer(path: Path, signing: Signing) -> Signer:
    """One signer for all connections of a process: it remembers the control commands that came."""
    return RingSigner(ring_file(path), required=signing is Signing.REQUIRE)


def unsigned_body(body: bytes) -> bytes:
    """The body without its signature."""
    found = _SIGNATURE.match(body) if body.startswith(_START) else None
    if found is None:
        return body
    rest = body[found.end() :]
    return rest[1:] if found[0].endswith(b'"') else b"{" + rest


def _covered(queue: str, message: Message, unsigned: bytes) -> bytes:
    """The bytes that a message's signature covers: a line of JSON, a NUL, and the body."""
    unique = message.unique
    fields: list[Any] = [
        "message",
        queue,
        message.task_id,
        message.name,
        message.key,
        [unique.key, int(unique.mode), int(unique.ttl_ms)] if unique else None,
        message.max_deliveries or None,
        message.eta_ms,
        message.body_known,
    ]
    if message.flow is not None:
        fields.append(flow_to_json(message.flow))
    return _to_json(fields).encode() + b"\0" + unsigned


def _dated(exchange: str, signed_at: int, unsigned: bytes) -> bytes:
    return _to_json(["broadcast", exchange, signed_at]).encode() + b"\0" + unsigned


def _purposed(purpose: str, text: str) -> bytes:
    return _to_json(["text", purpose]).encode() + b"\0" + text.encode(errors="surrogatepass")


def _mac(key: bytes, data: bytes) -> str:
    return urlsafe_b64encode(hmac.digest(key, data, "sha256")[:_BYTES])[:22].decode()
