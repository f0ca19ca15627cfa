"""Ordering keys: tasks with the same key run one at a time, in the order of their submission."""

from __future__ import annotations

import hashlib
from typing import Final, cast
from uuid import UUID

from laneway.platform.registry import TaskSpec
from laneway.platform.submission.invalid_options import InvalidOptions
from laneway.platform.submission.submit_options import SubmitOptions
from laneway.schemas.payload import Payload

KEY_LIMIT: Final = 200
"""Bytes of an ordering key. A longer key is cut, and a digest at its end keeps it distinct."""
DIGEST_LENGTH: Final = 32


def given_key(spec: TaskSpec, payload: Payload, options: SubmitOptions) -> str | None:
    """The ordering key: that of the submission, or of the declaration. Raises InvalidOptions."""
    given = cast("object", options.key)
    if given is None:
        return key_of(spec, payload)
    if not isinstance(given, str) or not given or "\x00" in given:
        raise InvalidOptions(spec.name, ["key: give a text that is not empty and has no NUL character"])
    return ordering_key(given)


def key_of(spec: TaskSpec, payload: Payload) -> str | None:
    """The ordering key of a task with this payload. None if its field is None, or neither text, a number nor a UUID."""
    value = getattr(payload, spec.key) if spec.key else None
    return ordering_key(f"{spec.key}:{value}") if isinstance(value, str | int | UUID) else None


def ordering_key(key: str) -> str:
    """Return the key cut to `KEY_LIMIT` bytes. Different keys stay different."""
    raw = key.encode("utf-8", "replace")
    if len(raw) <= KEY_LIMIT:
        return key
    kept = raw[: KEY_LIMIT - DIGEST_LENGTH - 1].decode("utf-8", "ignore")
    return f"{kept}:{hashlib.sha256(raw).hexdigest()[:DIGEST_LENGTH]}"
