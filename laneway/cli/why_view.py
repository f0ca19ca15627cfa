"""What `laneway why` prints for people."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from laneway.cli.times import ago, written
from laneway.schemas.choices import TaskState

if TYPE_CHECKING:
    from laneway.schemas.forecast import Forecast
    from laneway.schemas.waiting import Cause, LimitHolderView, WhyResponse


def why_text(found: WhyResponse, *, now: datetime | None = None) -> str:
    """The causes and the forecast, a line each."""
    now = now or datetime.now(UTC)
    lines = [f"{found.task_id} ({found.name}) is {found.status.value} in the queue {found.queue}."]
    if found.causes:
        lines.append("It waits for:")
    for number, cause in enumerate(found.causes, start=1):
        lines.append(f"  {number}. {cause.text}")
        lines += [f"     {line}" for line in _details(cause, now=now)]
    if found.forecast is not None:
        lines.append(_forecast(found.forecast, found.status, now=now))
    elif found.no_forecast:
        lines.append(f"No forecast: {found.no_forecast}")
    return "\n".join(lines)


def _details(cause: Cause, *, now: datetime) -> Iterator[str]:
    if cause.detail:
        yield cause.detail
    if cause.by:
        yield f"by {cause.by}" + (f", {ago(cause.since, now=now)}" if cause.since else "")
    yield from (_holder(holder, now=now) for holder in cause.holders)
    if cause.expected:
        yield f"probably {_within(cause.expected, now=now)}"
    if cause.until:
        yield f"until {cause.until:%Y-%m-%d %H:%M:%S} UTC ({_within(cause.until, now=now)})"


def _holder(holder: LimitHolderView, *, now: datetime) -> str:
    task = holder.task_id if holder.name is None else f"{holder.task_id} ({holder.name})"
    left = max(0, round((holder.lease_until - now).total_seconds()))
    if holder.since is None:
        return f"{task} has points: a worker has taken it and not started it; its lease ends in {left} s"
    on = f" on {holder.worker}" if holder.worker else ""
    return f"{task} has points since {holder.since:%Y-%m-%d %H:%M:%S} UTC{on}; its lease ends in {left} s"


def _forecast(forecast: Forecast, status: TaskState, *, now: datetime) -> str:
    half, most = forecast.starts_p50, forecast.starts_p90
    starts = f"It probably starts {_within(half, now=now)}, in 9 of 10 cases {_within(most, now=now)}"
    if forecast.ends_p50 is None or forecast.ends_p90 is None:
        return f"{starts}. Nobody knows yet how long it runs."
    ends = f"{_within(forecast.ends_p50, now=now)}, in 9 of 10 cases {_within(forecast.ends_p90, now=now)}"
    return f"It probably ends {ends}." if status is TaskState.PROCESSING else f"{starts}; it probably ends {ends}."


def _within(moment: datetime, *, now: datetime) -> str:
    seconds = (moment - now).total_seconds()
    return "at once" if seconds < 1 else f"within {written(round(seconds))}"
