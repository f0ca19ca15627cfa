"""Finds what kombu and Celery keep in a database: the lists of known queues, lists that nobody reads, other keys."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

from laneway.adopt.layout import Layout
from laneway.adopt.stock_lists import Source, StockLists
from laneway.adopt.stock_message import NOT_JSON
from laneway.engine.script_runner import ScriptRunner

REPLIES: Final = ".reply."
MOST_KEYS: Final = 1_000_000
"""Result keys that are counted."""


@dataclass(frozen=True, slots=True)
class FoundList:
    """A list with messages of kombu's. `why`: why the workers of the app do not read it; nothing if they do."""

    source: Source
    size: int
    why: str = ""


@dataclass(frozen=True, slots=True)
class OtherKeys:
    """Keys that are not moved. `results` is None when the results are not on Redis; `others` have no more keys."""

    results: int | None
    schedules: int
    exchanges: tuple[str, ...]


def find_lists(lists: StockLists, known: Collection[str]) -> tuple[list[FoundList], list[FoundList]]:
    """The lists of known queues in the order of delivery, and other lists that hold messages of kombu's."""
    ours, others = list[FoundList](), list[FoundList]()
    keys = lists.scan("*", "list")
    for key, size in zip(keys, lists.lengths(keys), strict=True):
        found = _place(lists.layout, key, known)
        if found is not None:
            ours.append(FoundList(found[0], size, found[1]))
        elif _has_messages(lists, key):
            source = Source(key, *(lists.layout.parse(key) or (key, 0))[:2])
            others.append(FoundList(source, size, _why_unread(lists.layout, key, known)))
    ours.sort(key=lambda found: (found.source.queue, found.source.step, found.why))
    return ours, others


def find_other_keys(lists: StockLists, results: ScriptRunner | None, *, schedule_prefix: str) -> OtherKeys:
    """Count the results and the schedules, and list the exchanges that have bindings."""
    return OtherKeys(
        results=None if results is None else _count(results, "*celery-task-meta-*"),
        schedules=_count(lists.runner, f"{schedule_prefix}*"),
        exchanges=tuple(lists.exchanges()),
    )


def _place(layout: Layout, key: str, known: Collection[str]) -> tuple[Source, str] | None:
    """The source of a list of a known queue, and why the app's workers do not read it."""
    parsed = layout.parse(key)
    if parsed is None or parsed[0] not in known:
        return None
    queue, step, separator = parsed
    why = ""
    if separator != layout.separator:
        why = "it was written with another separator (`sep`)"
    elif step not in layout.steps:
        why = f"priority_steps does not contain {step}"
    return Source(key, queue, step), why


def _why_unread(layout: Layout, key: str, known: Collection[str]) -> str:
    for queue in sorted(known, key=len, reverse=True):
        plain = key.partition(layout.separator)[0]
        if plain.endswith(queue) and plain != f"{layout.prefix}{queue}":
            return f"its key prefix is {plain.removesuffix(queue)!r}, that of the app is {layout.prefix!r}"
    if layout.parse(key) is None:
        return f"it does not have the key prefix of the app, {layout.prefix!r}"
    return "no worker of the app consumes it"


def _has_messages(lists: StockLists, key: str) -> bool:
    """Whether the next element of a list is a message of kombu's, and no reply to a client."""
    page = lists.page(Source(key), skip=0, most=1)
    return bool(page) and page[0].problem != NOT_JSON and REPLIES not in key


def _count(runner: ScriptRunner, pattern: str) -> int:
    number, cursor = 0, b"0"
    while True:
        reply: Any = runner.call("SCAN", cursor, "MATCH", pattern, "COUNT", 1000)
        cursor, number = reply[0], number + len(reply[1])
        if cursor == b"0" or number >= MOST_KEYS:
            return number
