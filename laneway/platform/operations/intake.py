"""Takes in the tasks that other programs have put where no worker of this platform looks.

A program that knows nothing but the broker's address sends a task by its name. What it needs not know is the queue:

| where its message is | what is done with it |
|---|---|
| a list of kombu's own Redis transport that has the name of a declared queue | it is queued |
| kombu's list `celery`, or the engine's queue `celery`: Celery's default | it is queued if its task is registered |

A message is put into the queue of its task's declaration, with its priority and ordering key. One script puts it there
and removes it from kombu's list (`laneway.adopt.mover`). From the engine's queue `celery` it is removed after it was
put; a repetition is dropped, because the message keeps its task id. A signed message is signed again for its new
queue. One without a valid signature stays so: workers make a dead letter of it if signatures are required. A task not
registered goes into the queue whose name the list has, where a worker makes a dead letter of it. A message that
cannot be taken in stays where it is, and is an alert; so is a registered task under a name that nobody declared, which
another project's worker may be about to take. `laneway queues take-in NAME` takes it in.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import chain
from typing import Final

from redis.exceptions import ResponseError

from laneway.adopt.mover import MOVED, Move, Mover
from laneway.adopt.stock_lists import PAGE, Source, StockLists
from laneway.adopt.stock_message import StockMessage, engine_message, engine_priority
from laneway.engine import Engine, Message, MessageInfo, MessageState, PutCode
from laneway.engine.errors import DuplicateTask, InvalidMessage, JournalFull, NewerQueue, QueueFull, TaskCancelled
from laneway.platform.broker import Broker
from laneway.platform.logging import logger
from laneway.platform.registry import TaskSpec, registry
from laneway.platform.submission.routes import sent_key
from laneway.transport.codec import call_of

log = logger(__name__)

CELERY_DEFAULT: Final = "celery"
"""The queue of a Celery app that sets none."""
REFUSALS: Final = (QueueFull, JournalFull, NewerQueue, DuplicateTask, InvalidMessage)
"""Why the engine may refuse a message while it answers."""
SILENT: Final = MOVED | {PutCode.GONE}
"""The codes of messages of lists about which there is nothing to log."""
WAITING: Final = (MessageState.READY, MessageState.SCHEDULED)


@dataclass(frozen=True, slots=True)
class Stranded:
    """Messages that wait where no worker of this platform looks. `names`: their tasks, if they can be read."""

    queue: str
    number: int
    names: tuple[str, ...]

    def __str__(self) -> str:
        tasks = "1 message waits" if self.number == 1 else f"{self.number} messages wait"
        named = f" (tasks: {', '.join(self.names)})" if self.names else ""
        return (
            f"{tasks} under the name {self.queue!r}{named}, where no worker of this platform looks: their senders "
            "do not know the queues of their tasks. `laneway queues routes` prints the queues; "
            f"`laneway queues take-in {self.queue}` queues the messages of known tasks"
        )


class Intake:
    """Takes in the tasks of other programs. Without the engine it does nothing: kombu's lists are then the queues."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def take(self, *more: str) -> int:
        """Queue what can be queued; return how many messages. Safe in many processes at once.

        `more`: further names under which to look, such as those that `stranded` tells. Raises BrokerUnavailable.
        """
        engine = self._broker.engine
        if engine is None:
            return 0
        undeclared = [name for name in (CELERY_DEFAULT, *more) if name not in self._broker.queues]
        with self._broker.guarded():
            lists, names = StockLists.of(engine), [*self._broker.queues, *undeclared]
            own_keys = [engine.keys.key(queue, "messages") for queue in undeclared]
            if not lists.has_any(names, engine_keys=own_keys):
                return 0
            found = list(lists.sizes(names))
            waiting = [(name, info.stored.message) for name in undeclared for info in _waiting(engine, name)]
        self._broker.prepare()  # enables the journals: the history learns of these tasks from them
        with self._broker.guarded():
            taken = sum(self._take_list(engine, lists, queue) for queue in found)
            taken += sum(self._take_message(engine, queue, message) for queue, message in waiting)
        if taken:
            log.info("tasks of other programs taken in", tasks=taken)
        return taken

    def stranded(self) -> list[Stranded]:
        """Take in what there is, and return what is left; also registered tasks under names that nobody declared.

        Raises BrokerUnavailable.
        """
        engine = self._broker.engine
        if engine is None:
            return []
        self.take()
        with self._broker.guarded():
            lists = StockLists.of(engine)
            looked_at = [*self._broker.queues, CELERY_DEFAULT]
            found = [_in_lists(lists, queue) for queue in dict.fromkeys((*looked_at, *lists.names()))]
            undeclared = [queue for queue in engine.queue_names() if queue not in self._broker.queues]
            found += [_in_queue(engine, queue) for queue in undeclared]
        return [
            each for each in found if each.number and (each.queue in looked_at or registry.keys() & set(each.names))
        ]

    def _take_list(self, engine: Engine, lists: StockLists, queue: str) -> int:
        return sum(self._take_page(engine, lists, source) for source in lists.sources(queue))

    def _take_page(self, engine: Engine, lists: StockLists, source: Source) -> int:
        """Move what can be moved of the next messages of a list; return how many."""
        page = [found for found in lists.page(source, skip=0) if found.raw is not None]
        moves = [move for found in page if self._is_ours(found.name, source.queue) and (move := declared_move(found))]
        if not moves:
            return 0
        try:
            codes = Mover(engine, engine.runner).move(source, moves)
        except NewerQueue as error:
            log.warning("tasks of another program not taken in now", queue=source.queue, error=str(error))
            return 0
        for move, code in zip(moves, codes, strict=True):
            if code not in SILENT:
                task_id = move.message.task_id
                log.warning("a task of another program not taken in now", task_id=task_id, error=code.name)
        return sum(code in MOVED for code in codes)

    def _take_message(self, engine: Engine, queue: str, message: Message) -> int:
        if message.name not in registry:
            return 0
        target, made = _target(message.name, queue), _of_engine(message)
        if self._broker.messages.signer.is_ours(queue, message):  # its signature is for the queue in which it lies
            made = self._broker.messages.signer.sign(target, made)
        if not self._put(engine, target, made):
            return 0
        return engine.cancel(queue, message.task_id).removed

    def _is_ours(self, name: str, queue: str) -> bool:
        return name in registry or queue in self._broker.queues

    def _put(self, engine: Engine, queue: str, message: Message) -> bool:
        """Queue a message; False when the queue does not take it now."""
        try:
            engine.put(queue, message)
        except TaskCancelled:  # it is not needed any more
            return True
        except REFUSALS as error:
            log.warning("a task of another program not taken in now", task_id=message.task_id, error=str(error))
            return False
        return True


def _waiting(engine: Engine, queue: str, *, bodies: bool = True) -> list[MessageInfo]:
    pages = (engine.peek(queue, state, limit=PAGE, bodies=bodies) for state in WAITING)
    return list(chain.from_iterable(pages))


def _in_lists(lists: StockLists, queue: str) -> Stranded:
    try:
        names = {message.name for source in lists.sources(queue) for message in lists.page(source, skip=0)}
    except ResponseError as error:
        if "NOPERM" not in str(error):
            raise
        return Stranded(queue, 0, ())  # the list of somebody else, which our user may not read
    return Stranded(queue, lists.sizes([queue]).get(queue, 0), _sample(names))


def _in_queue(engine: Engine, queue: str) -> Stranded:
    names = [info.stored.message.name for info in _waiting(engine, queue, bodies=False)]
    return Stranded(queue, len(names), _sample(names))


def _target(name: str, otherwise: str) -> str:
    spec = registry.get(name)
    return spec.queue if spec else otherwise


def decide(found: StockMessage) -> Move | str:
    """Which messages `laneway adopt` moves, and where to: those of registered tasks, as their declarations say."""
    if found.raw is None:
        return found.problem
    if found.name not in registry:
        return "the application has no task of this name"
    return declared_move(found) or "the engine cannot hold it"


def declared_move(found: StockMessage) -> Move | None:
    """The message as the declaration of its task says; None when the engine cannot hold it."""
    try:
        message = engine_message(found, once=True)
    except InvalidMessage as error:
        log.warning("a task of another program not taken in now", task_id=found.task_id, error=str(error))
        return None
    # In a list of kombu, 0 means that the sender gave no priority, or the first one.
    declared = _declared(message, priority=engine_priority(found.step) if found.step else None)
    return Move(found, _target(found.name, found.queue), declared)


def _of_engine(message: Message) -> Message:
    return _declared(replace(message, id=message.task_id), priority=message.priority or None)


def _declared(message: Message, *, priority: int | None) -> Message:
    """The message with the priority and the ordering key of its task's declaration, where the sender gave none."""
    spec = registry.get(message.name)
    if spec is None:
        return message if priority is None else replace(message, priority=priority)
    return replace(
        message,
        priority=3 * spec.priority if priority is None else priority,
        key=message.key or _key(spec, message),
    )


def _key(spec: TaskSpec, message: Message) -> str | None:
    try:
        args, kwargs = call_of(message)
    except ValueError:
        return None
    return sent_key(spec, args, kwargs)


def _sample(names: Iterable[str]) -> tuple[str, ...]:
    ours_first = sorted(set(filter(None, names)), key=lambda name: (name not in registry, name))
    return tuple(ours_first[:5])
