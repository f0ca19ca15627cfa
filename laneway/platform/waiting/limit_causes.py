"""What a task that waits for limits is told: which are used up, who has them, and when they open."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from laneway.engine.limit_waits import LimitWait
from laneway.platform.db.models import TaskRun
from laneway.platform.waiting.forecast import percentile
from laneway.schemas.task import TaskState
from laneway.schemas.waiting import Cause, CauseKind, LimitHolderView

SECOND_US: Final = 1_000_000
SOON: Final = "it has room again; a worker looks at what waits for it within 5 s"
"""An open limit opens its lines when points come free, and at the latest after this time (`flow.lua`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitFacts:
    """What is known of the limits for which a task waits; nothing where nobody asked for it.

    `runs`: the tasks that have their points, by id. `ran`: name of a task → seconds that its last runs took.
    `hides_holders`: the caller may not see tasks of others.
    """

    waits: Sequence[LimitWait] = ()
    runs: Mapping[str, TaskRun] = field(default_factory=dict[str, TaskRun])
    ran: Mapping[str, Sequence[float]] = field(default_factory=dict[str, Sequence[float]])
    hides_holders: bool = False


NOTHING: Final = LimitFacts()


def limit_text(name: str, key: str) -> str:
    """What a task waits for whose limit is used up."""
    counted = f", counted for {key!r}" if key else ""
    return f"the limit {name!r}{counted}: it is used up"


def limit_causes(facts: LimitFacts, *, own_name: str, now: datetime) -> Iterator[Cause]:
    """A cause for the limit in whose line the task waits, and for each further one that is used up now."""
    for number, wait in enumerate(facts.waits):
        if number and not wait.is_full and not wait.opens_at:
            continue
        opens = datetime.fromtimestamp(wait.opens_at / SECOND_US, UTC) if wait.opens_at else None
        expected = _expected(facts, wait, own_name, now=now) if wait.is_full else None
        yield Cause(
            kind=CauseKind.LIMIT,
            text=limit_text(wait.name, wait.key),
            limit=wait.name,
            detail=_detail(wait),
            until=None if wait.is_full else opens,
            expected=max(expected, opens) if expected and opens else expected,
            holders=[] if facts.hides_holders or not wait.is_full else [*_holders(facts, wait)],
        )


def _detail(wait: LimitWait) -> str:
    text = "; ".join(_details(wait))
    return text[:1].upper() + text[1:]


def _details(wait: LimitWait) -> Iterator[str]:
    if wait.blocked_until:
        yield f"a service has asked to wait: it lets nothing through until {_time(wait.blocked_until)}"
    if wait.interval is not None and wait.opens_at:
        yield f"it lets {_pace(wait.interval)} through"
    if wait.is_full:
        yield f"running tasks have {wait.running} of its {wait.max_running} points"
    if not wait.is_full and not wait.opens_at:
        yield SOON
    if wait.ahead:
        yield f"about {wait.ahead} {'task goes' if wait.ahead == 1 else 'tasks go'} before it"


def _holders(facts: LimitFacts, wait: LimitWait) -> Iterator[LimitHolderView]:
    for holder in wait.holders:
        run = facts.runs.get(holder.task_id)
        runs = run is not None and run.state == TaskState.PROCESSING
        yield LimitHolderView(
            task_id=holder.task_id,
            name=run.name if run else None,
            queue=holder.queue,
            since=run.started_at if run and runs else None,
            worker=run.worker if run and runs else None,
            lease_until=datetime.fromtimestamp(holder.lease_end / 1000, UTC),
        )


def _expected(facts: LimitFacts, wait: LimitWait, own_name: str, *, now: datetime) -> datetime | None:
    """When so many running tasks have probably ended that those before this one and it have had their turn.

    Later turns take as long as a run of this task. None: it is not known how long such tasks run.
    """
    ends = sorted(end for holder in wait.holders if (end := _end(facts, holder.task_id, now=now)) is not None)
    if not ends or len(ends) < len(wait.holders):
        return None
    turns, place = divmod((wait.ahead + 1) * wait.points - 1, len(ends))
    ran = facts.ran.get(own_name)
    if turns and not ran:
        return None
    return ends[place] + timedelta(seconds=turns * percentile(ran, 50) if ran else 0)


def _end(facts: LimitFacts, id: str, *, now: datetime) -> datetime | None:
    """When a task probably ends: after the median of the runs that took longer than it has run."""
    run = facts.runs.get(id)
    ran = facts.ran.get(run.name) if run is not None else None
    if run is None or not ran:
        return None
    started = run.started_at if run.state == TaskState.PROCESSING and run.started_at else now
    so_far = (now - started).total_seconds()
    longer = [seconds for seconds in ran if seconds > so_far]
    return max(now, started + timedelta(seconds=percentile(longer, 50))) if longer else now


def _pace(interval: int) -> str:
    seconds = interval / SECOND_US
    return f"one point in {seconds:g} s" if seconds > 1 else f"{1 / seconds:g} points a second"


def _time(us: int) -> str:
    return f"{datetime.fromtimestamp(us / SECOND_US, UTC):%Y-%m-%d %H:%M:%S} UTC"
