"""Events of webhooks: read a delivery, decide by the mapping what follows from each event, submit it, and show it.

One transaction stores an event together with its task, so a crash loses neither. The task's id is derived from the
event and the rule, and an event that has its task is never decided again: a repeat and a replay run nothing twice.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy.orm import Session

from app.db.models import WebhookDelivery, WebhookEvent
from app.db.queries import webhooks as repository
from app.schemas.tolerant import bounded
from app.schemas.webhook import ParsedDelivery, ParsedEvent
from app.schemas.webhook_event import (
    OPEN,
    ChangedEvents,
    EventDetails,
    EventFigure,
    EventPage,
    EventSelection,
    EventState,
    EventView,
    MappingView,
    RuleView,
    WebhookStatistics,
)
from app.services.task_manager import TaskManager
from app.services.webhooks.deciding import Decision, decide
from app.services.webhooks.mapping.current import CurrentMapping
from app.services.webhooks.parsing import parse
from laneway.platform import clock
from laneway.platform.alerts.conditions import Problem
from laneway.platform.alerts.rules import AlertRule, Severity
from laneway.platform.audit_log.recording import record
from laneway.platform.db.session import Database
from laneway.platform.errors import Conflict, InvalidPayload, NotFound, PayloadTooLarge
from laneway.platform.logging import logger
from laneway.platform.submission.acceptance import SubmitOptions
from laneway.platform.submission.transaction import SubmissionTransaction

log = logger(__name__)

MAX_FIGURES: Final = 200
MAX_SAMPLES: Final = 20


@dataclass(frozen=True, slots=True)
class _Chosen:
    """Events that an operator chose, and how many the selection matches."""

    events: list[WebhookEvent]
    matched: int


@dataclass(slots=True)
class _Followed:
    """What became of the events of one delivery or replay."""

    states: Counter[str] = field(default_factory=Counter[str])
    new_tasks: list[str] = field(default_factory=list[str])
    problems: list[str] = field(default_factory=list[str])


class WebhookEvents:
    """Turns stored deliveries into events and tasks, and shows and replays the events."""

    def __init__(self, database: Database, tasks: TaskManager, mapping: CurrentMapping) -> None:
        self._database, self._tasks, self._mapping = database, tasks, mapping

    def process(self, delivery_id: str) -> dict[str, Any]:
        """Read a stored delivery, and submit the task of each new event. Raises NotFound."""
        delivery, followed = self._delivery(delivery_id), _Followed()
        parsed = parse(delivery.source, delivery.body)
        for event in parsed.events:
            self._follow(delivery, event, followed)
        with self._database.transaction() as session:
            repository.mark_processed(session, delivery_id, now=clock.now())
        return {
            "source": delivery.source,
            "events": len(parsed.events),
            "tasks": followed.new_tasks,
            "unhandled": followed.states[EventState.UNHANDLED],
            "quarantined": followed.states[EventState.QUARANTINED],
            "problems": bounded(followed.problems),
        }

    def replay(self, id: int) -> ChangedEvents:
        """Decide again what follows from an event; one that has its task keeps it. Raises NotFound."""
        return self._replay(_Chosen([self._event(id)], matched=1))

    def replay_many(self, selection: EventSelection) -> ChangedEvents:
        """Decide again what follows from the selected events, oldest first."""
        return self._replay(self._chosen(selection))

    def discard(self, id: int) -> ChangedEvents:
        """Let nothing follow from an event; one that has its task keeps it. Raises NotFound."""
        return self._discard(_Chosen([self._event(id)], matched=1))

    def discard_many(self, selection: EventSelection) -> ChangedEvents:
        """Let nothing follow from the selected events."""
        return self._discard(self._chosen(selection))

    def page(self, which: repository.EventFilter, *, before: int | None, limit: int) -> EventPage:
        """Events, newest first."""
        with self._database.reading() as session:
            found = repository.events(session, which, limit=limit, before=before)
        return EventPage(events=[_view(event) for event in found], next=found[-1].id if len(found) == limit else None)

    def show(self, id: int) -> EventDetails:
        """One event with its content. Raises NotFound."""
        event = self._event(id)
        with self._database.reading() as session:
            delivery = repository.find(session, event.delivery_id)
        parsed = _parsed_event(event, parse(delivery.source, delivery.body)) if delivery else None
        return EventDetails(**_view(event).model_dump(), data=event.data, body=parsed.body if parsed else None)

    def statistics(self) -> WebhookStatistics:
        """How many deliveries and events are stored, and what became of them."""
        with self._database.reading() as session:
            deliveries = repository.count_deliveries(session)
            figures = repository.figures(session)
        totals = dict.fromkeys(EventState, 0)
        for _, _, state, number in figures:
            totals[EventState(state)] += number
        by_name = [
            EventFigure(source=source, name=name, state=EventState(state), count=number)
            for source, name, state, number in figures[:MAX_FIGURES]
        ]
        deliveries = {state: deliveries.get(state, 0) for state in (repository.QUEUED, repository.PROCESSED)}
        return WebhookStatistics(deliveries=deliveries, events=totals, by_name=by_name, timestamp=clock.now())

    def mapping(self) -> MappingView:
        """The mapping in force, and what is wrong with its file."""
        current = self._mapping.get()
        rules = current.mapping.rules if current.mapping else []
        return MappingView(
            file=current.file,
            valid=current.problem is None,
            problem=current.problem,
            in_force=current.mapping is not None,
            rules=[
                RuleView(name=rule.name, source=rule.source, event=rule.event, when=list(rule.when), task=rule.task)
                for rule in rules
            ],
        )

    @property
    def alert_rules(self) -> tuple[AlertRule, ...]:
        """What an operator must know: a mapping that is not valid, and sources with events in quarantine."""
        return (
            AlertRule(
                kind="webhook_quarantine",
                severity=Severity.LOW,
                condition=lambda _: self._quarantines(),
                advice="See why: `laneway webhooks list --source {subject} --state quarantined`, then "
                "`laneway webhooks replay`.",
            ),
            AlertRule(
                kind="webhook_mapping",
                severity=Severity.SEVERE,
                condition=lambda _: self._broken_mapping(),
                advice="See what is wrong: `laneway webhooks mapping`. Mend the file, then `laneway webhooks replay`.",
            ),
        )

    def _quarantines(self) -> list[Problem]:
        with self._database.reading() as session:
            quarantined = repository.count_by_source(session, EventState.QUARANTINED)
        return [Problem(source, _in_quarantine(source, number)) for source, number in quarantined.items()]

    def _broken_mapping(self) -> list[Problem]:
        current = self._mapping.get()
        if current.problem is None:
            return []
        return [Problem("mapping", f"the webhook mapping {current.file} is not valid")]

    def _delivery(self, id: str) -> WebhookDelivery:
        with self._database.reading() as session:
            delivery = repository.find(session, id)
        if delivery is None:
            raise NotFound("webhook delivery", id)
        return delivery

    def _event(self, id: int) -> WebhookEvent:
        with self._database.reading() as session:
            event = repository.find_event(session, id)
        if event is None:
            raise NotFound("webhook event", str(id))
        return event

    def _chosen(self, selection: EventSelection) -> _Chosen:
        which = repository.EventFilter(
            states=tuple(selection.states), source=selection.source, name=selection.name, rule=selection.rule
        )
        with self._database.reading() as session:
            matched = repository.count_events(session, which, after=selection.after)
            events = repository.events(session, which, limit=selection.limit, after=selection.after)
        return _Chosen(list(events), matched=matched)

    def _follow(
        self, delivery: WebhookDelivery, event: ParsedEvent, followed: _Followed, *, replayed: bool = False
    ) -> None:
        """Store an event with its task, in one transaction. If it has its task already, do nothing.

        `replayed`: a discarded event is decided, too.
        """
        decision = decide(self._mapping.get(), delivery.source, event)
        with self._tasks.transaction() as unit:
            stored = repository.add_event(unit.session, **_values(delivery, event, decision))
            if stored.task_id is None and (replayed or stored.state != EventState.DISCARDED):
                _apply(unit, stored, decision)
            state, task_id = stored.state, stored.task_id
        followed.states[state] += 1
        followed.problems += (f"{event.name or event.event_id}: {problem}" for problem in event.problems)
        if task_id and any(handle.created for handle in unit.handles):
            followed.new_tasks.append(task_id)
        if state in OPEN:
            log.info("webhook event has no task", source=stored.source, number=stored.id, state=state)

    def _replay(self, chosen: _Chosen) -> ChangedEvents:
        with self._database.transaction() as session:
            _record(session, "webhook_event.replay", chosen)
        parsed: tuple[WebhookDelivery, ParsedDelivery] | None = None
        for event in chosen.events:
            if event.task_id is not None:
                continue
            if parsed is None or parsed[0].id != event.delivery_id:
                delivery = self._delivery(event.delivery_id)
                parsed = delivery, parse(delivery.source, delivery.body)
            self._replay_one(event, *parsed)
        return self._changed(chosen)

    def _replay_one(self, event: WebhookEvent, delivery: WebhookDelivery, parsed: ParsedDelivery) -> None:
        found = _parsed_event(event, parsed)
        if found is not None:
            return self._follow(delivery, found, _Followed(), replayed=True)
        # This version reads the delivery differently: its events take the place of this one.
        for other in parsed.events:
            self._follow(delivery, other, _Followed())
        with self._database.transaction() as session:
            repository.delete_event(session, event.id)
        return None

    def _discard(self, chosen: _Chosen) -> ChangedEvents:
        with self._database.transaction() as session:
            repository.discard_events(session, [event.id for event in chosen.events], state=EventState.DISCARDED)
            _record(session, "webhook_event.discard", chosen)
        return self._changed(chosen)

    def _changed(self, chosen: _Chosen) -> ChangedEvents:
        """The chosen events as they are now."""
        with self._database.reading() as session:
            views = [_view(repository.find_event(session, event.id) or event) for event in chosen.events]
        return ChangedEvents(
            matched=chosen.matched,
            changed=len(views),
            states=dict(Counter(view.state for view in views)),
            events=views[:MAX_SAMPLES],
            next=views[-1].id if chosen.matched > len(views) else None,
        )


def _record(session: Session, action: str, chosen: _Chosen) -> None:
    """Record what is done with these events; nothing if there are none."""
    ids = [event.id for event in chosen.events]
    if ids:
        which = f"{ids[0]}" if len(ids) == 1 else f"{ids[0]} to {ids[-1]}"
        record(session, action, ("webhook_event", which), before={"events": ids})


def _values(delivery: WebhookDelivery, event: ParsedEvent, decision: Decision) -> dict[str, Any]:
    """The columns of a new event."""
    return {
        "source": delivery.source,
        "event_id": event.event_id,
        "name": event.name,
        "kind": event.kind,
        "delivery_id": delivery.id,
        "data": event.data,
        "problems": event.problems,
        "state": decision.state,
        "reason": decision.reason,
        "rule": decision.rule,
        "created_at": clock.now(),
    }


def _apply(unit: SubmissionTransaction, stored: WebhookEvent, decision: Decision) -> None:
    """Write a decision into the row of an event that has no task, and submit the task."""
    stored.state, stored.rule, stored.reason = decision.state, decision.rule, decision.reason
    if decision.task is None or decision.rule is None:
        return
    id = _task_id(stored, decision.rule)
    try:
        unit.submit(decision.task, decision.payload, options=SubmitOptions(id=id))
    except (InvalidPayload, PayloadTooLarge) as error:
        stored.state, stored.reason = EventState.QUARANTINED, str(error)
        return
    except Conflict:  # The row of this event was deleted by age, and the event came once more.
        log.info("webhook event had its task before", source=stored.source, task_id=id)
    stored.task_id = id


def _task_id(event: WebhookEvent, rule: str) -> str:
    identity = f"{event.source}\n{event.event_id}\n{rule}"
    return f"event:{hashlib.sha256(identity.encode()).hexdigest()[:40]}"


def _parsed_event(event: WebhookEvent, parsed: ParsedDelivery) -> ParsedEvent | None:
    return next((found for found in parsed.events if found.event_id == event.event_id), None)


def _view(event: WebhookEvent) -> EventView:
    return EventView(
        id=event.id,
        source=event.source,
        event_id=event.event_id,
        name=event.name,
        kind=event.kind,
        state=EventState(event.state),
        reason=event.reason,
        rule=event.rule,
        task_id=event.task_id,
        problems=event.problems,
        delivery_id=event.delivery_id,
        created_at=event.created_at,
    )


def _in_quarantine(source: str, number: int) -> str:
    of = f"of the webhook source {source!r}"
    return f"1 event {of} is in quarantine" if number == 1 else f"{number} events {of} are in quarantine"
