"""Reads the responses of chat completions servers, which differ in many ways from the specification.

Read as well: a byte order mark, text in a list of parts, counts of tokens that are no whole numbers or missing, and an
event stream although none was requested. Everything but the text and the counts is ignored.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, Final, cast

MAX_TOKENS: Final = 2**31 - 1
"""The largest count that the database stores; a larger one is not believed."""
_TEXT_PARTS: Final = frozenset({"text", "output_text", ""})
"""Types of the parts of a content that are text for the reader; other parts are thoughts, pictures or calls."""

_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")
"""Null characters, which PostgreSQL does not store, and halves of surrogate pairs, which no database stores."""

Object = Mapping[str, Any]


class NotACompletion(ValueError):
    """The response cannot be read as a chat completion."""


class CompletionFailed(ValueError):
    """The server reports an error in a response with status 200."""

    def __init__(self, error: object) -> None:
        super().__init__("the response holds an error")
        self.error = error


@dataclass(frozen=True, slots=True)
class Completion:
    """The first choice of a chat completion, as the server sent it: its text may have the model's thoughts."""

    text: str
    finish_reason: str | None = None
    """Why the model stopped: "stop", "length" (the limit of tokens), "content_filter" …"""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


def read_completion(body: bytes) -> Completion:
    """Read a response with status 200. Raises NotACompletion or CompletionFailed."""
    try:
        text = body.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise NotACompletion("the response is not UTF-8") from error
    if text.startswith(("data:", "event:", "id:", ":")):
        return _read_stream(text)
    response = _parse(text)
    choice = _first_choice(response)
    message = choice.get("message")
    if not isinstance(message, dict):
        raise NotACompletion("the first choice has no message")
    content = _text(cast("Object", message).get("content"))
    return _completion(content, choice.get("finish_reason"), response.get("usage"))


def _read_stream(text: str) -> Completion:
    """The whole text of an event stream. A stream that ends before the model did is not a completion."""
    parts: list[str] = []
    finish_reason: object = None
    usage: object = None
    complete = False
    for data in _events(text):
        if data == "[DONE]":
            complete = True
            break
        chunk = _parse(data)
        usage = chunk.get("usage") or usage
        if chunk.get("choices") == []:
            continue  # The last chunk has the usage only.
        choice = _first_choice(chunk)
        delta: object = choice.get("delta") or choice.get("message")
        parts.append(_text(cast("Object", delta).get("content")) if isinstance(delta, dict) else "")
        finish_reason = choice.get("finish_reason") or finish_reason
    if not complete and finish_reason is None:
        raise NotACompletion("the stream ended before the answer")
    return _completion("".join(parts), finish_reason, usage)


def _events(text: str) -> Iterator[str]:
    """The data of each event; its lines are joined."""
    for event in text.replace("\r\n", "\n").replace("\r", "\n").split("\n\n"):
        lines = [line.removeprefix("data:").removeprefix(" ") for line in event.split("\n") if line.startswith("data:")]
        if any(line.strip() for line in lines):
            yield "\n".join(lines).strip()


def _parse(text: str) -> Object:
    """A JSON object without an error in it."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise NotACompletion("the response is not JSON") from error
    if not isinstance(value, dict):
        raise NotACompletion("the response is not a JSON object")
    response = cast("Object", value)
    if response.get("error") or response.get("object") == "error":
        raise CompletionFailed(response.get("error") or response)
    return response


def _first_choice(response: Object) -> Object:
    choices = response.get("choices")
    first: object = cast("list[object]", choices)[0] if isinstance(choices, list) and choices else None
    if not isinstance(first, dict):
        raise NotACompletion("the response has no choices")
    choice = cast("Object", first)
    if choice.get("error"):
        raise CompletionFailed(choice["error"])
    return choice


def _text(content: object) -> str:
    """The text of a content: a string, a list of parts, or null."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    return "".join(_part_text(part) for part in cast("list[object]", content))


def _part_text(part: object) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, dict):
        return ""
    fields = cast("Object", part)
    text = fields.get("text")
    if isinstance(text, dict):  # {"type": "text", "text": {"value": "…"}}
        text = cast("Object", text).get("value")
    return text if isinstance(text, str) and fields.get("type", "") in _TEXT_PARTS else ""


def _completion(text: str, finish_reason: object, usage: object) -> Completion:
    counts: Object = cast("Object", usage) if isinstance(usage, dict) else {}
    return Completion(
        _UNSTORABLE.sub("\ufffd", text),
        finish_reason if isinstance(finish_reason, str) else None,
        _count(counts.get("prompt_tokens")),
        _count(counts.get("completion_tokens")),
    )


def _count(value: object) -> int | None:
    """A count of tokens, rounded; None for what is no count."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        return None
    return round(value) if 0 <= value <= MAX_TOKENS else None
