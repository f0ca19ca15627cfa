"""What `laneway why` prints."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from laneway.cli.why_view import why_text
from laneway.schemas.forecast import Forecast
from laneway.schemas.task import TaskState
from laneway.schemas.waiting import Cause, CauseKind, LimitHolderView, WhyResponse

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)


def found(**values: Any) -> WhyResponse:
    given: dict[str, Any] = {"causes": [], "ahead": None, "forecast": None, "no_forecast": None}
    given |= {"task_id": "t-1", "name": "send_invoice", "queue": "emails", "status": TaskState.PENDING}
    return WhyResponse(**(given | values))


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def test_each_cause_has_a_line_with_who_and_until_when() -> None:
    paused = Cause(kind=CauseKind.PAUSED, text="its queue", by="ann", since=after(-180))
    due = Cause(kind=CauseKind.DUE_TIME, text="its due time", until=after(90))
    line = Cause(kind=CauseKind.LINE, text="a free worker", detail="3 tasks go before it in its queue")

    assert why_text(found(causes=[paused, due, line], no_forecast="It waits for its queue."), now=NOW).split("\n") == [
        "t-1 (send_invoice) is pending in the queue emails.",
        "It waits for:",
        "  1. its queue",
        "     by ann, 3 min ago",
        "  2. its due time",
        "     until 2026-11-30 12:01:30 UTC (within 1m30s)",
        "  3. a free worker",
        "     3 tasks go before it in its queue",
        "No forecast: It waits for its queue.",
    ]


def test_a_limit_says_who_has_it_and_when_it_opens() -> None:
    runs = LimitHolderView(
        task_id="t-0", name="send", queue="emails", since=after(-9), worker="w1", lease_until=after(24.2)
    )
    taken = LimitHolderView(task_id="t-2", name=None, queue="emails", since=None, worker=None, lease_until=after(-1))
    full = Cause(kind=CauseKind.LIMIT, text="the limit", holders=[runs, taken], expected=after(130))

    assert why_text(found(causes=[full]), now=NOW).split("\n")[2:] == [
        "  1. the limit",
        "     t-0 (send) has points since 2026-11-30 11:59:51 UTC on w1; its lease ends in 24 s",
        "     t-2 has points: a worker has taken it and not started it; its lease ends in 0 s",
        "     probably within 2m10s",
    ]


def test_the_forecast_of_a_waiting_and_of_a_running_task() -> None:
    times = Forecast(starts_p50=NOW, starts_p90=after(60), ends_p50=after(5), ends_p90=after(3600), starts=3)
    waiting = why_text(found(forecast=times), now=NOW)
    running = why_text(found(forecast=times, status=TaskState.PROCESSING), now=NOW)
    unknown = why_text(found(forecast=times.model_copy(update={"ends_p50": None})), now=NOW)

    starts = "It probably starts at once, in 9 of 10 cases within 1m"
    assert waiting.endswith(f"{starts}; it probably ends within 5s, in 9 of 10 cases within 1h.")
    assert running.endswith("queue emails.\nIt probably ends within 5s, in 9 of 10 cases within 1h.")
    assert unknown.endswith(f"{starts}. Nobody knows yet how long it runs.")
