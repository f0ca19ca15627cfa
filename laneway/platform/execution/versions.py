"""Finds out whether a worker of another version must run a task.

A submission is checked by the version that sends it. So a payload that was checked, and that does not fit here, comes
from another version. A payload that nobody has checked (`send_task`, `celery call`) comes from another version if it
has fields that the task does not have here; anything else that is wrong in it is a mistake of the sender.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from laneway.platform.history.adoption import POSITIONAL
from laneway.platform.registry import TaskSpec
from laneway.platform.sealing import SealedUnreadable, opened_payload
from laneway.transport.codec import HEADER_CHECKED
from laneway.worker.hand_on import UNREADABLE_PAYLOAD, UnknownHere

SEALED_PAYLOAD = "encrypted"
"""Reason of the dead letter when no worker could decrypt the payload."""
_KEY_ADVICE = "Give its workers the key ring of the sender (KEY_RING_FILE)"
_ADVICE = "Deploy workers whose code has it, or correct the payload where the task is sent"


def check_version(spec: TaskSpec, payload: Mapping[str, Any], headers: Mapping[str, Any]) -> None:
    """Raise UnknownHere when a worker of another version must run a task with this payload."""
    try:
        spec.payload.model_validate(dict(payload))
    except ValidationError as error:
        problems = error.errors(include_input=False, include_url=False, include_context=False)
    else:
        return
    unknown = [".".join(map(str, item["loc"])) for item in problems if item["type"] == "extra_forbidden"]
    is_checked = bool(headers.get(HEADER_CHECKED))
    if unknown and (is_checked or unknown != [POSITIONAL]):
        fields = ", ".join(map(repr, sorted(unknown)))
        raise UnknownHere(f"{_noun(unknown)} {fields} of the task {spec.name!r}", UNREADABLE_PAYLOAD, _ADVICE)
    if is_checked:
        first = problems[0]
        place = ".".join(map(str, first["loc"])) or "payload"
        what = f"this form of the payload of the task {spec.name!r} ({place}: {first['msg']})"
        raise UnknownHere(what, UNREADABLE_PAYLOAD, _ADVICE)


def opened_here(spec: TaskSpec, payload: dict[str, Any]) -> dict[str, Any]:
    """Open the payload. Raises UnknownHere when it is sealed with a key that this worker does not have."""
    try:
        return opened_payload(payload)
    except SealedUnreadable as error:
        what = f"how to decrypt the payload of the task {spec.name!r} ({error.problem})"
        raise UnknownHere(what, SEALED_PAYLOAD, _KEY_ADVICE) from None


def _noun(fields: list[str]) -> str:
    return "the field" if len(fields) == 1 else "the fields"
