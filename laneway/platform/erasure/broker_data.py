"""What the broker holds of a person: messages in any queue and state, and results."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from laneway.engine import Engine, MessageInfo, MessageState
from laneway.platform.broker import Broker
from laneway.platform.erasure.subject import Subject
from laneway.platform.execution.celery_results import CeleryResults
from laneway.platform.sealing import opened_if_possible
from laneway.transport.codec import contents_of

PAGE: Final = 200
STATES: Final = (MessageState.READY, MessageState.SCHEDULED, MessageState.HELD, MessageState.LEASED, MessageState.DEAD)


@dataclass(frozen=True, slots=True)
class HeldMessage:
    """A message about the person."""

    queue: str
    id: str
    task_id: str
    state: MessageState


def find_messages(broker: Broker, subject: Subject) -> list[HeldMessage]:
    """The messages about the person, in all queues of the broker's database. Raises BrokerUnavailable."""
    if broker.engine is None:
        return []
    with broker.guarded():
        names = sorted({*broker.queues, *broker.engine.queue_names()})
        return [
            HeldMessage(name, info.stored.id, info.stored.message.task_id, info.state)
            for name in names
            for info in _messages(broker.engine, name)
            if _is_about(info, subject)
        ]


def remove_message(broker: Broker, message: HeldMessage) -> bool:
    """Remove a message; False: a worker has it."""
    engine = broker.require_engine("removing a message")
    with broker.guarded():
        if message.state is MessageState.DEAD:
            engine.discard(message.queue, [message.id])
            return True
        return not engine.cancel(message.queue, message.task_id).marked


def find_results(results: CeleryResults, subject: Subject) -> list[str]:
    """The ids of the tasks whose results are about the person. Raises ResultStoreUnavailable."""
    found: dict[str, None] = {}
    for ids in results.ids(page=PAGE) if results.listable else ():
        found.update((id, None) for id, meta in results.contents(ids) if subject.owns(id, opened_if_possible(meta)))
    return list(found)


def _messages(engine: Engine, queue: str) -> Iterator[MessageInfo]:
    for state in STATES:
        offset = 0
        while page := engine.peek(queue, state, offset=offset, limit=PAGE):
            yield from page
            offset += PAGE


def _is_about(info: MessageInfo, subject: Subject) -> bool:
    message = info.stored.message
    error = info.dead_info.error if info.dead_info is not None else None
    if subject.owns(message.task_id, message.key, error):
        return True
    try:
        return subject.owns(_content(info))
    except RecursionError:  # anybody can put a message that is nested too deeply
        return subject.owns(message.body)


def _content(info: MessageInfo) -> Any:
    """The arguments of the call and of its chain; of a message that is no call, its body."""
    try:
        return opened_if_possible(contents_of(info.stored.message))
    except ValueError:
        body = info.stored.message.body
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return body
