"""Encrypts what is stored with an older key again, with the current one, so that the older key can be removed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from sqlalchemy import ColumnElement, Text, func, inspect, select, tuple_
from sqlalchemy import cast as sql_cast
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.orm.attributes import flag_modified

from laneway.engine import Engine, Message, MessageState
from laneway.platform.audit_log.recording import record
from laneway.platform.broker import Broker
from laneway.platform.db.models import (
    BatchCallback,
    OutboundDelivery,
    TaskEvent,
    TaskRun,
    TaskSignal,
    TaskStep,
    WorkflowRun,
    WorkflowSignal,
    WorkflowStepRun,
)
from laneway.platform.db.models.sealed import SealedJson, SealedText
from laneway.platform.db.session import Database
from laneway.platform.execution.celery_results import CeleryResults
from laneway.platform.operations.sealed_copies import SealedResults, StoredPayloads
from laneway.platform.sealing import form_of
from laneway.platform.settings import TaskSettings
from laneway.transport.codec import contents_of

BATCH: Final = 200
STATES: Final = (MessageState.READY, MessageState.SCHEDULED, MessageState.HELD, MessageState.LEASED, MessageState.DEAD)
COLUMNS: Final[tuple[InstrumentedAttribute[Any], ...]] = (
    *(TaskRun.payload, TaskRun.result, TaskStep.result, TaskEvent.data, TaskSignal.data),
    *(WorkflowRun.input, WorkflowRun.output, WorkflowStepRun.output, WorkflowSignal.data),
    *(OutboundDelivery.body, BatchCallback.payload),
)
"""Every column with values that may be encrypted."""


@dataclass(slots=True)
class Amounts:
    """How many of each kind there are."""

    rows: int = 0
    messages: int = 0
    payloads: int = 0
    """Large payloads in the storage."""
    results: int = 0
    """Results in Celery's store, and parts of chords."""


class Reencryption:
    """Encrypts again what is in the database, in the storage of large payloads, and in Celery's result store.

    Messages of the broker stay as they are until they are done, and so do the large payloads to which they refer.
    """

    def __init__(self, database: Database, broker: Broker, results: CeleryResults, settings: TaskSettings) -> None:
        self._database, self._broker, self._sealer = database, broker, settings.sealer
        self._payloads = StoredPayloads(database, settings)
        self._results = SealedResults(results, settings.sealer)

    def run(self, report: Callable[[Amounts], object] = lambda _done: None) -> Amounts:
        """Encrypt again what is encrypted with another key of the ring than the current one; returns how much.

        `report` is called with what is done after each batch. Each batch is done as a whole, and what is done is not
        done again, so that the next run continues after an interruption. Raises KeysMissing, StorageUnavailable,
        ResultStoreUnavailable, and SealedUnreadable for a value that was changed.
        """
        done = Amounts()
        for key in self._sealer.older_keys:
            for column in COLUMNS:
                after: tuple[Any, ...] | None = None
                while page := self._encrypt_page(column, key, after):
                    done.rows, after = done.rows + len(page), page[-1]
                    report(replace(done))
        for payloads in self._payloads.encrypt_again():
            done.payloads += payloads
            report(replace(done))
        for results in self._results.encrypt_again():
            done.results += results
            report(replace(done))
        with self._database.transaction() as session:
            record(session, "keys.reencrypt", ("keys", "ring"), after=asdict(done))
        return done

    def uses(self, key: str, report: Callable[[Amounts], object] = lambda _found: None) -> Amounts:
        """Count what is encrypted with this key; `report` is called with what was found so far.

        Raises BrokerUnavailable, StorageUnavailable, ResultStoreUnavailable.
        """
        found = Amounts()
        with self._database.reading() as session:
            for column in COLUMNS:
                rows = select(func.count()).select_from(column.class_).where(_has(column, key))
                found.rows += session.scalar(rows) or 0
        for payloads in self._payloads.count(key):
            found.payloads += payloads
            report(replace(found))
        for results in self._results.count(key):
            found.results += results
            report(replace(found))
        if self._broker.engine is not None:
            with self._broker.guarded():
                engine = self._broker.engine
                for name in sorted({*self._broker.queues, *engine.queue_names()}):
                    found.messages += sum(form_of(key) in text for text in _calls(engine, name))
                    report(replace(found))
        return found

    def _encrypt_page(
        self, column: InstrumentedAttribute[Any], key: str, after: tuple[Any, ...] | None
    ) -> list[tuple[Any, ...]]:
        """Encrypt the next rows after this primary key; returns their primary keys. Other writers of them wait."""
        primary = inspect(column.class_).primary_key
        rows = select(column.class_).where(_has(column, key)).order_by(*primary).limit(BATCH).with_for_update()
        if after is not None:
            rows = rows.where(tuple_(*primary) > tuple_(*after))
        with self._database.transaction() as session:
            found = session.scalars(rows).all()
            for row in found:
                value = getattr(row, column.key)
                if not isinstance(column.type, SealedJson | SealedText):  # those decrypt and encrypt by themselves
                    setattr(row, column.key, self._sealer.again(value))
                flag_modified(row, column.key)
            return [tuple(inspect(row).identity) for row in found]


def _has(column: InstrumentedAttribute[Any], key: str) -> ColumnElement[bool]:
    return sql_cast(column, Text).contains(form_of(key), autoescape=True)


def _calls(engine: Engine, queue: str) -> Iterator[str]:
    """What the messages of a queue carry, also their chains, as JSON; empty for a message that is no call."""
    for state in STATES:
        offset = 0
        while page := engine.peek(queue, state, offset=offset, limit=BATCH):
            yield from (_contents(info.stored.message) for info in page)
            offset += len(page)


def _contents(message: Message) -> str:
    try:
        return json.dumps(contents_of(message))
    except ValueError:
        return ""
