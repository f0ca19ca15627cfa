"""How an answer becomes a value or an error."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any, Final, cast

from laneway.client.errors import UnexpectedResponse, api_error
from laneway.schemas.feed import FeedEvent
from laneway.schemas.task import EventView

PROBLEM: Final = frozenset({"type", "title", "status", "detail", "instance"})
"""The fields that every problem has, and no other answer."""


def checked_json(status: int, content: bytes | str, retry_after: str | None) -> Any:
    """Return the JSON of a success; None of one without content. Raises a ClientError."""
    if status == HTTPStatus.NO_CONTENT:
        return None
    try:
        body = json.loads(content)
    except ValueError:
        body = None
    if status >= 400:
        raise api_error(status, body, retry_after)
    if (late := _late_status(body)) is not None:
        raise api_error(late, body, retry_after)
    if status >= 300 or body is None:
        raise UnexpectedResponse(f"The answer has status {status} and is not JSON of Laneway's API. Check the URL")
    return body


def _late_status(body: Any) -> int | None:
    """The status of a problem that came after the answer had begun; None for any other body."""
    fields = cast("dict[str, Any]", body) if isinstance(body, dict) else {}
    return fields["status"] if fields.keys() >= PROBLEM and isinstance(fields["status"], int) else None


def read_feed_event(data: str) -> FeedEvent:
    """Return one event of a feed. Raises UnexpectedResponse."""
    try:
        return FeedEvent.model_validate_json(data)
    except ValueError as error:
        raise UnexpectedResponse(f"An event of the feed cannot be read: {data[:200]!r}") from error


def read_event(data: str) -> EventView:
    """Return one event of a task. Raises UnexpectedResponse."""
    try:
        return EventView.model_validate_json(data)
    except ValueError as error:
        raise UnexpectedResponse(f"An event of the task cannot be read: {data[:200]!r}") from error
