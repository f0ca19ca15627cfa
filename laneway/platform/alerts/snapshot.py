"""What the rules of alerts look at: the parts of a platform, and what one sweep reads of them once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Final

from laneway.platform import clock
from laneway.platform.broker import Broker
from laneway.platform.db.queries import trouble
from laneway.platform.db.queries.trouble import Waiting
from laneway.platform.db.session import Database
from laneway.platform.history.journal_recorder import JournalRecorder
from laneway.platform.operations.intake import Intake, Stranded
from laneway.platform.operations.unknown_queues import UnknownQueues
from laneway.platform.schedules.watch import ScheduleWatch
from laneway.platform.settings import AlertSettings
from laneway.platform.task_manager import TaskManager
from laneway.schemas.task import QueueFigures

HOUR: Final = timedelta(hours=1)
"""Failures and dead letters are counted over this time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """The parts of a platform that rules look at. What is None is not looked at."""

    database: Database
    broker: Broker
    tasks: TaskManager
    recorder: JournalRecorder
    intake: Intake
    settings: AlertSettings
    unknown_queues: UnknownQueues | None = None
    schedules: ScheduleWatch | None = None


class Snapshot:
    """The platform at the moment of one sweep."""

    def __init__(self, watched: Watched, *, database_was_held: bool = False) -> None:
        """`database_was_held`: nobody could write until now, so that the age of the workers' reports says nothing."""
        self.watched, self.settings, self.database_was_held = watched, watched.settings, database_was_held
        self.now = clock.now()
        self.queues: dict[str, QueueFigures] = watched.tasks.queues()
        """Queue → its figures. They are read first: that records the newest events for all that is read after it."""

    @property
    def hour_ago(self) -> datetime:
        return self.now - HOUR

    @cached_property
    def waiting(self) -> list[Waiting]:
        """For each queue, the tasks that are due and wait."""
        with self.watched.database.reading() as session:
            return trouble.waiting_longest(session, now=self.now)

    @cached_property
    def stranded(self) -> list[Stranded]:
        """Messages of other programs where no worker looks. Raises BrokerUnavailable."""
        return self.watched.intake.stranded()
