"""Erasure: find everything about one person, stop it, remove it, and leave a proof.

The order matters, because each step may be the last one before a crash; a repeat of the command then continues.

1. Find: the erasers of the application first, because they know the person's ids.
2. Record the beginning. What cannot be recorded is not done.
3. Stop: cancel workflows and tasks, and wait for those that run: they could store the data again. While one still
   runs, nothing else is removed; the application's data must stay until the tasks that it leads to are gone.
4. Remove tasks, then messages and results of the broker, then all other rows of library and application, in one
   transaction that also records the end. That entry is the proof.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from secrets import token_hex
from time import monotonic, sleep
from typing import Final

from sqlalchemy import select

from laneway.platform.audit_log.recording import parts_of_one_action, record
from laneway.platform.broker import Broker
from laneway.platform.db.models import AuditLogEntry, WorkflowRun
from laneway.platform.db.queries import task_runs
from laneway.platform.db.session import Database
from laneway.platform.erasure import broker_data, library_data
from laneway.platform.erasure.broker_data import HeldMessage
from laneway.platform.erasure.erasers import Eraser, Found
from laneway.platform.erasure.library_data import LibraryData
from laneway.platform.erasure.subject import Subject
from laneway.platform.errors import RetryableError, UnknownTask, WrongState
from laneway.platform.execution.celery_results import CeleryResults
from laneway.platform.history.journal_recorder import JournalRecorder
from laneway.platform.logging import logger
from laneway.platform.payload_store import PayloadStore
from laneway.platform.task_manager import TaskManager
from laneway.platform.workflows.errors import WrongWorkflowState
from laneway.platform.workflows.runs import Workflows
from laneway.schemas.task import FINISHED
from laneway.schemas.workflow_run import RUN_OVER

log = logger(__name__)

WAIT_SECONDS: Final = 30.0
POLL_SECONDS: Final = 0.2
MOST_ROUNDS: Final = 10
"""How often the erasers are asked again with the ids that they have found."""
SHOWN: Final = 20
"""Ids of each kind that a report names."""


class StillRunning(RetryableError):
    """Tasks about the person did not stop in time, so their data was not removed."""

    status, title = 409, "Tasks still run"

    template = (
        "{number} tasks about this person still run, such as {example!r}. They were asked to stop; nothing was removed "
        "yet. Repeat the command when they have ended."
    )
    number: int
    example: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ErasureReport:
    """What an erasure has removed, or would remove in a dry run."""

    dry_run: bool
    counts: Mapping[str, int]
    """Kind of data → number."""
    examples: Mapping[str, Sequence[str]]
    """Kind of data → some ids, sorted."""
    elsewhere: Sequence[str]
    """Data in other systems, which somebody has to remove there."""
    entry: int | None = None
    """The number of the entry of the audit log that proves the erasure."""
    receipt: str | None = None
    """Shows, together with the subject, that the entry is about this person. It is stored nowhere."""


@dataclass(frozen=True, slots=True)
class _Everything:
    """What there is about the person."""

    subject: Subject
    application: Mapping[str, int]
    elsewhere: frozenset[str]
    library: LibraryData
    messages: Sequence[HeldMessage]
    results: Sequence[str]

    @property
    def counts(self) -> dict[str, int]:
        held = {"broker_messages": len(self.messages), "results": len(self.results)}
        return {**self.application, **self.library.counts, **held}

    def report(self, *, dry_run: bool, entry: int | None = None, receipt: str | None = None) -> ErasureReport:
        """Return it as a report."""
        ids = {"tasks": self.library.tasks, "workflows": self.library.workflows, "ids": self.subject.ids}
        return ErasureReport(
            dry_run=dry_run,
            counts=self.counts,
            examples={kind: sorted(found)[:SHOWN] for kind, found in ids.items() if found},
            elsewhere=sorted(self.elsewhere),
            entry=entry,
            receipt=receipt,
        )


class Erasure:
    """Finds and removes the data of one person."""

    def __init__(
        self,
        database: Database,
        broker: Broker,
        *,
        recorder: JournalRecorder,
        tasks: TaskManager,
        workflows: Workflows,
        results: CeleryResults,
        payloads: PayloadStore,
        erasers: Sequence[Eraser],
    ) -> None:
        self._database, self._broker, self._recorder, self._tasks = database, broker, recorder, tasks
        self._workflows, self._results, self._erasers = workflows, results, erasers
        self._payloads = payloads

    def run(self, name: str, *, dry_run: bool = False, wait: float = WAIT_SECONDS) -> ErasureReport:
        """Remove everything about the person whom `name` names: an e-mail address, a phone number, an id.

        `dry_run`: only find it. `wait`: seconds that running tasks get to stop.
        Raises InvalidSubject, StillRunning, BrokerUnavailable, DatabaseUnavailable, ResultStoreUnavailable,
        StorageUnavailable.
        """
        found = self._find(Subject(name))
        if dry_run:
            return found.report(dry_run=True)
        receipt = token_hex(16)
        person = ("person", proof_of(found.subject.name, receipt))
        with self._database.transaction() as session:
            record(session, "person.erase", person, after={"found": found.counts})
        with parts_of_one_action():
            self._stop(found.library, wait=wait)
            self._remove_tasks(found)
        with self._database.transaction() as session:
            library_data.remove(session, found.library)
            for eraser in self._erasers:
                eraser.erase(session, found.subject)
            library_data.erase_audit_contents(session, found.library)
            entry = record(session, "person.erased", person, after={"removed": found.counts})
        log.warning("a person's data erased", entry=entry, **found.counts)
        return found.report(dry_run=False, entry=entry, receipt=receipt)

    def is_proof(self, entry: int, *, name: str, receipt: str) -> bool:
        """Whether this entry of the audit log says that the data of this person was erased."""
        with self._database.reading() as session:
            row = session.get(AuditLogEntry, entry)
        expected = proof_of(Subject(name).name, receipt)
        is_end = row is not None and (row.action, row.object_kind) == ("person.erased", "person")
        return is_end and row is not None and hmac.compare_digest(row.object_id or "", expected)

    def _find(self, subject: Subject) -> _Everything:
        self._recorder.catch_up()
        parts: list[Found] = []
        with self._database.reading() as session:
            for _ in range(MOST_ROUNDS):
                parts = [eraser.find(session, subject) for eraser in self._erasers]
                known = subject.known_as(id for part in parts for id in part.ids)
                if known.ids == subject.ids:
                    break
                subject = known
            library = library_data.find(session, subject)
        counts = {kind: number for part in parts for kind, number in part.counts.items()}
        elsewhere = frozenset(sentence for part in parts for sentence in part.elsewhere)
        messages = broker_data.find_messages(self._broker, subject)
        results = broker_data.find_results(self._results, subject)
        return _Everything(subject, counts, elsewhere, library, messages, results)

    def _stop(self, library: LibraryData, *, wait: float) -> None:
        """Cancel workflows and tasks that have not ended, and wait for those that run. Raises StillRunning."""
        for id in self._unfinished_workflows(library):
            with suppress(WrongWorkflowState):
                self._workflows.cancel(id)
        for id in sorted(self._unfinished(library)):
            with suppress(WrongState, UnknownTask):
                self._tasks.cancel(id)
        deadline = monotonic() + wait
        while running := self._unfinished(library):
            if monotonic() >= deadline:
                raise StillRunning(len(running), min(running))
            sleep(POLL_SECONDS)
            self._recorder.catch_up()

    def _unfinished_workflows(self, library: LibraryData) -> list[str]:
        with self._database.reading() as session:
            return [
                id
                for ids in library_data.batches(library.workflows)
                for id in session.scalars(
                    select(WorkflowRun.id).where(WorkflowRun.id.in_(ids), WorkflowRun.state.not_in(RUN_OVER))
                )
            ]

    def _unfinished(self, library: LibraryData) -> set[str]:
        found: set[str] = set()
        with self._database.reading() as session:
            for ids in library_data.batches(library.tasks):
                found.update(run.id for run in task_runs.by_ids(session, ids) if run.state not in FINISHED)
        return found

    def _remove_tasks(self, found: _Everything) -> None:
        """Remove the tasks with their events and attempts, and what the broker holds. Raises StillRunning."""
        for id in sorted(found.library.tasks):
            with suppress(UnknownTask):
                self._tasks.delete(id)
        for message in broker_data.find_messages(self._broker, found.subject):
            if not broker_data.remove_message(self._broker, message):
                raise StillRunning(1, message.task_id)
        for id in {*found.library.tasks, *found.results}:
            self._results.forget(id)
        self._payloads.forget(found.library.tasks)
        self._recorder.catch_up()


def proof_of(name: str, receipt: str) -> str:
    """What the audit log says instead of the person: nobody can guess who it is without the receipt."""
    return hmac.digest(receipt.encode(), name.casefold().encode(), "sha256").hex()
