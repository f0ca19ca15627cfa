"""Tries the tasks that wait: the rows of the database, and the messages of the broker that have no row yet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from sqlalchemy import ColumnElement

from laneway.engine import Engine, MessageInfo, MessageState
from laneway.platform import clock
from laneway.platform.broker import Broker
from laneway.platform.db.queries import unfinished
from laneway.platform.db.queries.unfinished import DEAD_LETTERS, UNFINISHED_TASKS
from laneway.platform.db.session import Database
from laneway.platform.gate.calls import Calls, NotTried
from laneway.platform.gate.findings import GateReport, Kind
from laneway.platform.history.adoption import NOT_SIGNED, PAYLOAD_UNKNOWN, run_from_message
from laneway.platform.operations.unknown_queues import LOOKED_AT, is_task_queue
from laneway.platform.queues import queues as declared
from laneway.platform.registry import registry

Progress = Callable[[int, int], object]
"""Called with the number of tasks that were tried, and how many there are."""
PAGE: Final = 500
"""Messages of one read, without their bodies."""
BODIES: Final = 50
"""Messages of one read with their bodies."""
STATES: Final = (*LOOKED_AT, MessageState.DEAD)
SHOWN: Final = {
    MessageState.READY: "pending",
    MessageState.SCHEDULED: "scheduled",
    MessageState.HELD: "pending",
    MessageState.LEASED: "processing",
    MessageState.DEAD: "dead_letter",
}
"""State of a message → that of its task."""


class Tasks:
    """Tries every task that is not finished, and every dead letter. Reads only."""

    def __init__(self, database: Database, broker: Broker, calls: Calls, report: GateReport) -> None:
        self._database, self._broker, self._calls, self._report = database, broker, calls, report
        self._foreign = Counter[str]()
        """Queue that this code does not declare → its messages of tasks that this code does not have."""

    def try_rows(self, progress: Progress) -> None:
        """Try the tasks that the database knows. Raises DatabaseUnavailable."""
        with self._database.reading() as session:
            total = sum(unfinished.count(session, which) for which in (UNFINISHED_TASKS, DEAD_LETTERS))
        done = 0
        for which in (UNFINISHED_TASKS, DEAD_LETTERS):
            for page in self._pages(which):
                done += page
                progress(done, max(done, total))

    def try_messages(self) -> None:
        """Try the messages without a row: those of the last moment, and those in queues that nobody declares.

        Raises BrokerUnavailable, DatabaseUnavailable.
        """
        engine = self._broker.engine
        if engine is None:
            self._report.notes.append("The broker is not the delivery engine: only tasks with a row were tried.")
            return
        with self._broker.guarded():
            names = [name for name in engine.queue_names() if is_task_queue(name)]
            for queue in names:
                for state in STATES:
                    self._try_state(engine, queue, state)
        for queue, number in self._foreign.items():
            what = f"{number} messages in the queue {queue!r}"
            self._report.notes.append(f"{what} were left out: this code has neither the queue nor their tasks.")

    def _pages(self, which: ColumnElement[bool]) -> Iterator[int]:
        for page in unfinished.calls(self._database, which):
            for call in page:
                if PAYLOAD_UNKNOWN in call.options or NOT_SIGNED in call.options:
                    continue  # the message has the payload; workers refuse one that is not signed, whatever their code
                self._report.count("tasks")
                try:
                    problem = self._calls.problem(call.name, call.payload, queue=call.queue)
                except NotTried as error:
                    self._report.leave_out(str(error))
                    continue
                if problem is not None:
                    self._report.add(problem, id=call.id, state=call.state, payload=call.payload)
            yield len(page)

    def _try_state(self, engine: Engine, queue: str, state: MessageState) -> None:
        offset = 0
        while page := engine.peek(queue, state, offset=offset, limit=PAGE, bodies=False):
            missing = self._without_row([info.stored.message.task_id for info in page])
            for start in range(0, len(missing), BODIES):
                found = engine.find_many(queue, missing[start : start + BODIES])
                self._try_found(queue, [info for info in found if info is not None], SHOWN[state])
            offset += len(page)

    def _without_row(self, ids: Sequence[str]) -> list[str]:
        with self._database.reading() as session:
            options = unfinished.options_of(session, ids)
        return [id for id in ids if id not in options or PAYLOAD_UNKNOWN in options[id]]

    def _try_found(self, queue: str, found: Sequence[MessageInfo], state: str) -> None:
        for info in found:
            run = run_from_message(info.stored, queue=queue, at=clock.now())
            if queue not in declared and run.name not in registry:
                self._foreign[queue] += 1
                continue
            self._report.count("tasks")
            try:
                problem = self._calls.problem(run.name, run.payload, queue=queue)
            except NotTried as error:
                self._report.leave_out(str(error))
                continue
            if problem is not None and not (problem.kind is Kind.PAYLOAD and PAYLOAD_UNKNOWN in run.options):
                self._report.add(problem, id=run.id, state=state, payload=run.payload)
