"""The report of a run, for people and as plain data."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from laneway.adopt.drain import Counted, total
from laneway.adopt.settings_review import LINE, Effect, Row
from laneway.adopt.survey import Survey

WIDTH = 60
"""The widest column, in characters."""
MOST_UNREAD = 50
"""Lists that nobody reads and that are named singly."""


def settings_text(rows: Sequence[Row]) -> str:
    """The table of the settings, and below it what to edit."""
    table = [("setting", "value", "", "with Laneway")]
    table += [(row.setting, row.value, row.effect.value, row.meaning) for row in rows]
    edits = dict.fromkeys(row.edit for row in rows if row.edit and row.edit != LINE)
    lines = [*_columns(table), "", "To edit:" if any(row.edit for row in rows) else "Nothing is to be edited."]
    lines += [f"  {LINE}    # right after the app is made"] * any(row.edit == LINE for row in rows)
    return "\n".join([*lines, *(f"  {edit}" for edit in edits)])


def survey_text(survey: Survey) -> str:
    """What was counted or moved, what was left and why, and what nobody reads."""
    lines = list(_worker_lines(survey))
    summed = total(counted for counted, _why in survey.sources)
    rows: list[Sequence[str]] = [("queue", "step", "before", "moved" if survey.applied else "to move", "left", "after")]
    rows += [_row(counted) for counted, _why in survey.sources]
    rows.append(
        ("total", "", *map(str, (summed.before, summed.moved, summed.left.total(), summed.after)))[: len(rows[0])]
    )
    lines += ["", *_columns(rows), *_details(survey), *_unread(survey), *_others(survey), "", *_end(survey, summed)]
    return "\n".join(line.rstrip() for line in lines)


def as_data(rows: Sequence[Row], survey: Survey | None) -> dict[str, Any]:
    """The whole report as plain data."""
    data: dict[str, Any] = {"settings": [asdict(row) for row in rows]}
    if survey is None:
        return data
    summed = total(counted for counted, _why in survey.sources)
    return data | {
        "applied": survey.applied,
        "workers": list(survey.workers.names),
        "revoked": sorted(survey.revoked),
        "sources": [_counted_data(counted, why) for counted, why in survey.sources],
        "unread": [{"key": each.source.key, "messages": each.size, "why": each.why} for each in survey.unread],
        "other_keys": asdict(survey.other) if survey.other else None,
        "before": summed.before,
        "moved": summed.moved,
        "left": summed.left.total(),
        "after": summed.after,
        "agrees": survey.agrees,
        "moved_ever": survey.moved_ever,
    }


def _counted_data(counted: Counted, why: str) -> dict[str, Any]:
    source = counted.source
    return {
        "key": source.key,
        "queue": source.queue,
        "step": source.step,
        "unacked": bool(source.index),
        "why_unread": why,
        "before": counted.before,
        "moved": counted.moved,
        "copies": counted.copies,
        "left": dict(counted.left),
        "after": counted.after,
        "changed_by_others": counted.unexplained,
        "with_eta": counted.with_eta,
        "oldest_delivery": counted.oldest,
        "tasks": dict(counted.tasks),
        "into": dict(counted.queues),
        "examples": counted.examples,
    }


def _row(counted: Counted) -> tuple[str, ...]:
    source = counted.source
    name = ("(delivered, not acknowledged)", "") if source.index else (source.queue, str(source.step))
    return (*name, *_numbers(counted))


def _numbers(counted: Counted) -> tuple[str, ...]:
    return tuple(map(str, (counted.before, counted.moved, counted.left.total(), counted.after)))


def _worker_lines(survey: Survey) -> Iterator[str]:
    names = ", ".join(survey.workers.names[:10])
    yield f"Old workers that answer: {names or 'none'}"
    if survey.revoked:
        yield f"Revoked tasks, which are left: {len(survey.revoked)}"


def _details(survey: Survey) -> Iterator[str]:
    for counted, why in survey.sources:
        what = "delivered messages" if counted.source.index else f"{counted.source.queue}, step {counted.source.step}"
        if why and counted.before:
            yield f"  {what}: nobody reads this list: {why}"
        if counted.with_eta:
            yield f"  {what}: {counted.with_eta} with an ETA or countdown"
        if counted.oldest is not None:
            yield f"  {what}: the oldest was delivered {time.time() - counted.oldest:.0f} s ago"
        if counted.copies:
            yield f"  {what}: {counted.copies} were copies of tasks that are queued"
        for reason, number in counted.left.items():
            yield f"  {what}: {number} left: {reason}"
            yield from (f"    {example}" for example in counted.examples.get(reason, ()))


def _unread(survey: Survey) -> Iterator[str]:
    if survey.unread:
        yield ""
        yield "Messages that nobody will read:"
    for each in survey.unread[:MOST_UNREAD]:
        yield f"  {each.source.key!r}: {each.size}: {each.why}"
    if len(survey.unread) > MOST_UNREAD:
        yield f"  … and {len(survey.unread) - MOST_UNREAD} more lists"


def _others(survey: Survey) -> Iterator[str]:
    other = survey.other
    if other is None:
        return
    yield ""
    results = "not on Redis" if other.results is None else str(other.results)
    yield (
        f"These stay where they are: results {results}, RedBeat's keys {other.schedules}, bindings of the exchanges "
        f"{', '.join(other.exchanges[:10]) or 'none'}"
    )


def _end(survey: Survey, summed: Counted) -> Iterator[str]:
    if not survey.applied:
        yield f"Nothing was changed. `--apply` moves {summed.moved} messages."
        return
    ever = sum(survey.moved_ever.values())
    yield f"Moved {summed.moved}, left {summed.left.total()}; all runs together moved {ever}."
    for counted, _why in survey.sources:
        if counted.unexplained:
            verb = "came from others" if counted.unexplained > 0 else "were taken by others"
            yield f"{counted.source.key}: {abs(counted.unexplained)} messages {verb} meanwhile. Repeat the command."
    if survey.agrees:
        yield "The numbers before and after agree."


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as text in columns. Only the last column may be wider than `WIDTH`."""
    short = [[_plain(cell) if at == len(row) - 1 else _cut(cell) for at, cell in enumerate(row)] for row in rows]
    widths = [max(len(row[at]) for row in short) for at in range(len(rows[0]) - 1)]
    return [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=True)), row[-1]])
        for row in short
    ]


def _cut(cell: str) -> str:
    return _plain(cell)[:WIDTH]


def _plain(cell: str) -> str:
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in cell)


def has_problems(rows: Sequence[Row]) -> bool:
    """Whether a setting makes the change impossible."""
    return any(row.effect is Effect.IMPOSSIBLE for row in rows)
