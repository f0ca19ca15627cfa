"""Answers why a task waits, from the broker and the database."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy.orm import Session

from laneway.engine import LimitUse
from laneway.engine.admin_replies import MessageInfo
from laneway.platform import clock
from laneway.platform.access.caller import current_caller
from laneway.platform.broker import Broker
from laneway.platform.db.models import TaskRun
from laneway.platform.db.queries import audit_log, forecasts, task_runs, task_waits, workers
from laneway.platform.db.queries.audit_log import AuditLogFilter
from laneway.platform.db.queries.held import is_held
from laneway.platform.db.session import Database
from laneway.platform.errors import BrokerUnavailable
from laneway.platform.history.task_views import display_state
from laneway.platform.registry import registry
from laneway.platform.waiting.causes import IN_OUTBOX, NO_BROKER, Facts, Holder, Pause, causes
from laneway.platform.waiting.forecast import Place, Recent, forecast, forecast_of_running, gaps_of
from laneway.platform.waiting.limit_causes import NOTHING, LimitFacts
from laneway.schemas.forecast import Forecast
from laneway.schemas.task import FINISHED, WAITING, TaskState
from laneway.schemas.waiting import Cause, CauseKind, WhyResponse

NEWEST_STARTS: Final = timedelta(minutes=15)
"""Starts that are not older than this say how the line moves."""
MOST_WAITS: Final = 20
"""Things that one task waits for, the oldest first, which an answer names."""
DAY: Final = timedelta(days=1)
FORESEEABLE: Final = frozenset({CauseKind.DUE_TIME, CauseKind.IN_FLIGHT, CauseKind.RATE, CauseKind.LINE})
"""Causes that end by themselves, at a time that can be told."""
OVER: Final = "It is over."
NEVER_RAN: Final = "No task of this name that ran for longer has ended within a day."
NO_RATE: Final = "Its queue started no task lately while others waited."


class WaitingReasons:
    """Looks why tasks wait."""

    def __init__(self, database: Database, broker: Broker) -> None:
        self._database, self._broker = database, broker

    def first(self, run: TaskRun, *, serving: int) -> str | None:
        """The strongest cause, in words; None if the task does not wait. `serving`: live workers of its queue."""
        if run.state not in WAITING:
            return None
        found = self._facts(run, serving=serving)
        return causes(found)[0].text if isinstance(found, Facts) else found.text

    def why(self, run: TaskRun) -> WhyResponse:
        """Every cause, and a forecast."""
        with self._database.reading() as session:
            serving = workers.serving(session, now=clock.now()).get(run.queue, 0)
        found = self._facts(run, serving=serving, whole=True) if run.state in WAITING else None
        all_causes: Sequence[Cause] = causes(found) if isinstance(found, Facts) else [found] if found else []
        foreseen, reason = self._forecast(run, found if isinstance(found, Facts) else None, all_causes)
        return WhyResponse(
            task_id=run.id,
            name=run.name,
            queue=run.queue,
            status=display_state(run),
            causes=list(all_causes),
            ahead=found.message.position if isinstance(found, Facts) and found.message else None,
            forecast=foreseen,
            no_forecast=reason,
        )

    def _facts(self, run: TaskRun, *, serving: int, whole: bool = False) -> Facts | Cause:
        """What is known of a task; or the only cause. `whole`: also who holds its key, and who paused its queue."""
        try:
            found, stats = self._broker.find(run.queue, [run.id]), self._broker.stats([run.queue])
        except BrokerUnavailable:
            return NO_BROKER
        if run.state == TaskState.ACCEPTED or (is_held(run) and display_state(run) is TaskState.PENDING):
            return IN_OUTBOX
        with self._database.reading() as session:
            waits = task_waits.of_task(session, run.id, limit=MOST_WAITS) if run.state == TaskState.SCHEDULED else ()
        message, is_paused = found[0] if found else None, bool(stats and stats[0].paused)
        return Facts(
            run=run,
            now=clock.now(),
            serving=serving,
            waits=waits,
            message=message,
            is_lost=found is not None and message is None and not is_held(run),
            stats=stats[0] if stats else None,
            holder=self._holder(run.queue, message.behind) if whole and message and message.behind else None,
            limits=self._limits(run, message) if whole and message else NOTHING,
            pause=self._pause(run.queue) if whole and is_paused and not current_caller().is_bound else None,
        )

    def _holder(self, queue: str, id: str) -> Holder | None:
        try:
            found = self._broker.find(queue, [id])
        except BrokerUnavailable:
            return None
        with self._database.reading() as session:
            return Holder(message=found[0] if found else None, run=task_runs.find(session, id))

    def _limits(self, run: TaskRun, message: MessageInfo) -> LimitFacts:
        engine = self._broker.engine
        if engine is None or not isinstance(message.waits_for, LimitUse):
            return NOTHING
        try:
            with self._broker.guarded():
                waits = engine.limit_waits(run.queue, message.stored.id)
        except BrokerUnavailable:
            return NOTHING
        ids = [holder.task_id for wait in waits if wait.is_full for holder in wait.holders]
        with self._database.reading() as session:
            runs = {each.id: each for each in task_runs.by_ids(session, ids)} if ids else {}
            names = {each.name for each in (run, *runs.values())} if ids else set[str]()
            ran = {name: _ran(session, run.queue, name) for name in names}
        return LimitFacts(waits=waits, runs=runs, ran=ran, hides_holders=current_caller().is_bound)

    def _pause(self, queue: str) -> Pause | None:
        with self._database.reading() as session:
            which = AuditLogFilter(action="queue.pause", object_id=queue)
            rows = audit_log.scan(session, which, before=None, limit=1).rows
        return Pause(by=rows[0].caller_name, since=rows[0].at) if rows else None

    # --- forecasts

    def _forecast(
        self, run: TaskRun, facts: Facts | None, all_causes: Sequence[Cause]
    ) -> tuple[Forecast | None, str | None]:
        """The forecast, or why there is none."""
        if run.state in FINISHED:
            return None, OVER
        if blocking := next((cause for cause in all_causes if not _is_foreseeable(cause)), None):
            return None, f"It waits for {blocking.text}."
        now = clock.now()
        with self._database.reading() as session:
            recent = _recent(session, run, now=now)
            running = forecasts.running(session, run.queue)
        if run.state == TaskState.PROCESSING:
            found = forecast_of_running(run.started_at or now, recent, now=now)
            return found, None if found else NEVER_RAN
        found = forecast(_place(facts, all_causes, running=running, now=now), recent)
        return found, None if found else NO_RATE


def _is_foreseeable(cause: Cause) -> bool:
    return cause.kind in FORESEEABLE or (cause.kind is CauseKind.LIMIT and cause.until is not None)


def _ran(session: Session, queue: str, name: str) -> list[float]:
    """The seconds that the last runs of a task took."""
    names = registry.names_of(name)
    found = forecasts.past_runs(session, queue, names, since=clock.now() - DAY)
    return [(past.ended - past.started).total_seconds() for past in found if past.is_completed and past.name in names]


def _recent(session: Session, run: TaskRun, *, now: datetime) -> Recent:
    names, newest = registry.names_of(run.name), now - NEWEST_STARTS
    found = forecasts.past_runs(session, run.queue, names, since=now - DAY)
    in_queue = [(past.ready, past.started) for past in found if past.queue == run.queue and past.started >= newest]
    ran = [(past.ended - past.started).total_seconds() for past in found if past.is_completed and past.name in names]
    return Recent(gaps=gaps_of(in_queue), runs=ran)


def _place(facts: Facts | None, all_causes: Sequence[Cause], *, running: int, now: datetime) -> Place:
    """Where a task is in its line. Tasks that workers have fetched and not started go before it as well."""
    earliest = max([now, *(cause.until for cause in all_causes if cause.until is not None)])
    if facts is None or facts.stats is None:  # without the engine, only the times are known
        return Place(now=now, ahead=0, earliest=earliest)
    stats, position = facts.stats, facts.message.position if facts.message else None
    interval = stats.limits.get("interval", 0) / 1_000_000
    ahead = (stats.ready if position is None else position) + max(0, stats.leased - running)
    return Place(now=now, ahead=ahead, earliest=earliest, interval=interval)
