"""Encrypts what is stored with an older key again, with the current one, so that the older key can be removed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, cast

from sqlalchemy import ColumnElement, Text, func, inspect, select, tuple_
from sqlalchemy import cast as sql_cast
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.orm.attributes import flag_modified

from laneway.engine import Engine, Message, MessageState
from laneway.platform.audit_log.recording import record
from laneway.platform.broker import Broker
from laneway.platform.db.models import OutboundDelivery, TaskRun, TaskStep, WorkflowRun, WorkflowSignal, WorkflowStepRun
from laneway.platform.db.models.sealed import SealedJson, SealedText
from laneway.platform.db.queries.retention import stored_payloads
from laneway.platform.db.session import Database
from laneway.platform.payload_store import STORED, PayloadLost, name_of
from laneway.platform.sealing import form_of, is_sealed, opened
from laneway.platform.settings import TaskSettings
from laneway.transport.codec import contents_of

BATCH: Final = 200
STATES: Final = (MessageState.READY, MessageState.SCHEDULED, MessageState.HELD, MessageState.LEASED, MessageState.DEAD)
COLUMNS: Final[tuple[InstrumentedAttribute[Any], ...]] = (
    *(TaskRun.payload, TaskRun.result, TaskStep.result),
    *(WorkflowRun.input, WorkflowRun.output, WorkflowStepRun.output, WorkflowSignal.data),
    OutboundDelivery.body,
)
"""Every column with values that may be encrypted."""


@dataclass(frozen=True, slots=True)
class Uses:
    """How many stored values, messages of the broker, and payloads in the storage are encrypted with a key."""

    stored: int
    messages: int
    payloads: int = 0


class Reencryption:
    """Encrypts again what is in the database.

    Messages of the broker, and large payloads in the storage, to which messages refer, stay as they are until they are
    done or deleted.
    """

    def __init__(self, database: Database, broker: Broker, settings: TaskSettings) -> None:
        self._database, self._broker = database, broker
        self._sealer, self._store = settings.sealer, settings.payload_store

    def run(self, report: Callable[[int], object] = lambda _done: None) -> int:
        """Encrypt again what is encrypted with another key of the ring than the current one; returns how many rows.

        `report` is called with their number after each batch. A batch is a transaction, so that the next run continues
        after an interruption. Raises KeysMissing, and SealedUnreadable for a value that was changed.
        """
        done = 0
        for key in self._sealer.older_keys:
            for column in COLUMNS:
                after: tuple[Any, ...] | None = None
                while page := self._encrypt_page(column, key, after):
                    done, after = done + len(page), page[-1]
                    report(done)
        with self._database.transaction() as session:
            record(session, "keys.reencrypt", ("keys", "ring"), after={"rows": done})
        return done

    def uses(self, key: str) -> Uses:
        """Count what is encrypted with this key. Raises BrokerUnavailable, StorageUnavailable."""
        with self._database.reading() as session:
            counts = [
                session.scalar(select(func.count()).select_from(column.class_).where(_has(column, key))) or 0
                for column in COLUMNS
            ]
            large = [name_of(payload) for payload in stored_payloads(session, like=STORED)]
        payloads = sum(self._is_sealed_with(key, name) for name in large)
        if self._broker.engine is None:
            return Uses(sum(counts), 0, payloads)
        with self._broker.guarded():
            engine = self._broker.engine
            names = sorted({*self._broker.queues, *engine.queue_names()})
            messages = sum(form_of(key) in text for name in names for text in _calls(engine, name))
            return Uses(sum(counts), messages, payloads)

    def _is_sealed_with(self, key: str, name: str) -> bool:
        """Whether a payload in the storage is encrypted with the key; False if it is lost."""
        try:
            return self._store.url is not None and form_of(key) in json.dumps(self._store.read(name))
        except PayloadLost:
            return False

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
                    setattr(row, column.key, self._encrypted_again(value))
                flag_modified(row, column.key)
            return [tuple(inspect(row).identity) for row in found]

    def _encrypted_again(self, value: Any) -> Any:
        """The value with each encrypted part encrypted again: a chain passes results on as parts of a payload."""
        if is_sealed(value):
            return self._sealer.seal(opened(value), what="A stored value")
        if isinstance(value, dict):
            parts = cast("dict[str, Any]", value)
            return {name: self._encrypted_again(each) for name, each in parts.items()}
        if isinstance(value, list):
            return [self._encrypted_again(each) for each in cast("list[Any]", value)]
        return value


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
