"""Decides about each message: what is moved, to which queue, and what is left where it is, with the reason."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from laneway.adopt.drain import Decide
from laneway.adopt.mover import Move
from laneway.adopt.old_workers import OldWorkers
from laneway.adopt.project import Project
from laneway.adopt.stock_message import StockMessage, content_problem, engine_message
from laneway.engine.errors import InvalidMessage

UNREGISTERED: Final = "the app has no task of this name"
REVOKED: Final = "it was revoked"
UNREAD: Final = "no worker of the app consumes its queue (`--queue` takes it)"
ASK_FIRST: Final = "it was delivered to a worker; no worker answers: `--take-unacked` takes it"
MAY_RUN: Final = "it was delivered, and old workers answer: stop them first"
NOT_OVERDUE: Final = "it was delivered less than a visibility timeout ago, and old workers answer"


@dataclass(frozen=True)
class ProjectRules:
    """The rules for a Celery app: each message goes into the queue of its name, if a worker of the app can run it."""

    project: Project
    steps: tuple[int, ...]
    revoked: Collection[str] = frozenset()

    def __call__(self, found: StockMessage) -> Move | str:
        """What is to be moved, or the reason to leave it."""
        if found.raw is None:
            return found.problem
        if found.task_id in self.revoked:
            return REVOKED
        if found.name not in self.project.tasks:
            return UNREGISTERED
        if problem := content_problem(found, self.project.accepted):
            return problem
        try:
            return Move(found, found.queue, engine_message(found, steps=self.steps))
        except InvalidMessage as error:
            return str(error)


@dataclass(frozen=True)
class UnackedRules:
    """The rules for messages that were delivered: a worker may still run them.

    `take`: the operator says that they are to be taken. While old workers answer, only those are taken that kombu
    itself would deliver again, because the visibility timeout is over.
    """

    decide: Decide
    known: Collection[str]
    workers: OldWorkers
    take: bool
    visibility_timeout: float

    def __call__(self, found: StockMessage) -> Move | str:
        """What is to be moved, or the reason to leave it."""
        decided = self.decide(found)
        if isinstance(decided, str):
            return decided
        if found.queue not in self.known:
            return UNREAD
        if not self.take:
            return MAY_RUN if self.workers.names else ASK_FIRST
        if self.workers.names and not self._is_overdue(found):
            return NOT_OVERDUE
        return decided

    def _is_overdue(self, found: StockMessage) -> bool:
        """Whether kombu would deliver it again. What the index does not name it never delivers again."""
        return found.delivered_at is None or found.delivered_at < time.time() - self.visibility_timeout
