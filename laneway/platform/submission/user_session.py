"""Submissions in a transaction of the caller: the caller's own SQLAlchemy session or connection.

The row of a task is inserted over the caller's connection, so it is committed with the caller's data, or not at all.
After the commit of a session the task is sent. A relay sends it within a second in two other cases: the session's
transaction belongs to an outer one, which is not committed yet, or there is only a connection, which does not tell when
it has committed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, cast
from weakref import WeakSet

from sqlalchemy import Connection, Engine, event, inspect
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlalchemy.orm import Session, scoped_session
from sqlalchemy.util import await_only

from laneway.platform.db.models import Installation
from laneway.platform.db.queries import installation
from laneway.platform.db.session import Database
from laneway.platform.errors import PermanentError, PlatformError
from laneway.platform.logging import logger
from laneway.platform.settings import TaskSettings
from laneway.platform.submission.outbox import Outbox
from laneway.platform.submission.transaction import Submission, SubmissionTransaction, call_here, transaction_of
from laneway.schemas.task import TaskHandle

log = logger(__name__)

_CALLS: Final = "laneway_after_commit"
"""The key of `Session.info` under which the calls wait for the commit."""


class OtherDatabase(PermanentError):
    """The session is not one of the database in which the platform stores tasks."""

    title = "Other database"

    template = "The session is one of {given}, but tasks are stored in {own}: they cannot be committed together."
    given: str
    own: str


class UserSessions:
    """Accepts tasks in transactions of callers."""

    def __init__(self, database: Database, outbox: Outbox, settings: TaskSettings) -> None:
        self._database, self._outbox, self._settings = database, outbox, settings
        self._known = WeakSet[Engine]()
        """Engines of the platform's database."""

    def submit_many(self, session: Session | Connection, submissions: Sequence[Submission]) -> list[TaskHandle]:
        """Accept tasks with the caller's transaction.

        They are admitted as any other submission, before their rows are inserted: what is refused leaves the caller's
        transaction as it was. Raises OtherDatabase, and as `SubmissionTransaction.submit` in a bounded transaction.
        """
        if isinstance(session, Session) and (transaction := transaction_of(session)) is not None:
            return transaction.submit_many(submissions)
        connection = session if isinstance(session, Connection) else session.connection()
        if not connection.in_transaction():
            connection.begin()
        self._check_database(connection)
        # A session of our own on the caller's connection: it neither flushes nor commits anything of the caller's.
        with Session(bind=connection, join_transaction_mode="rollback_only", expire_on_commit=False) as own:
            accepted = SubmissionTransaction(
                own,
                self._settings,
                bounded=True,
                claimed=False,
                admission=self._outbox.admission,
                wait=call_in_thread if connection.dialect.is_async else call_here,
            )
            handles = accepted.submit_many(submissions)
            own.flush()
        if isinstance(session, Session):
            call_after_commit(session, partial(self._send, accepted))
        return handles

    def _send(self, accepted: SubmissionTransaction) -> None:
        runs = accepted.runs
        self._outbox.keyed.stop_superseded_by(accepted.superseding)
        try:
            self._outbox.send_stored(runs)
        except PlatformError as error:
            log.warning("tasks accepted but not published yet", tasks=len(runs), error=str(error))

    def _check_database(self, connection: Connection) -> None:
        """Raise OtherDatabase unless the connection is one to the platform's database. Each engine is checked once."""
        if connection.engine in self._known:
            return
        with self._database.reading() as session:
            own = installation.find_id(session) or _address(self._database.engine)
        given = None
        if inspect(connection).has_table(Installation.__tablename__):
            with Session(bind=connection, join_transaction_mode="rollback_only") as session:
                given = installation.find_id(session) or _address(connection.engine)
        if given != own:
            raise OtherDatabase(
                *(engine.url.render_as_string() for engine in (connection.engine, self._database.engine))
            )
        self._known.add(connection.engine)


def call_after_commit(session: Session, call: Callable[[], object]) -> None:
    """Call this when the session has committed its outermost transaction; never after its rollback.

    In the thread of an event loop the call is made in another thread, because it may wait.
    """
    if not session.in_transaction():
        session.begin()  # so that a rollback is one
    if not event.contains(session, "after_commit", _after_commit):
        event.listen(session, "after_commit", _after_commit)
        event.listen(session, "after_rollback", _after_rollback)
    session.info.setdefault(_CALLS, []).append(call)


def call_in_thread(work: Callable[[], None]) -> None:
    """Call what waits from SQLAlchemy's greenlet of a coroutine: in a thread, so that the event loop goes on."""
    await_only(asyncio.to_thread(work))


def is_async(session: object) -> bool:
    """Whether it is an asynchronous session or connection."""
    return isinstance(session, AsyncSession | AsyncConnection)


def sync_session(session: object) -> Session | Connection | None:
    """The session or connection itself, or that of a `scoped_session`; None for anything else."""
    if isinstance(session, scoped_session):
        session = cast("Any", session)()
    return session if isinstance(session, Session | Connection) else None


def _after_commit(session: Session) -> None:
    if session.in_nested_transaction():
        return  # a savepoint was released
    for call in session.info.pop(_CALLS, ()):
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            call()
        else:
            loop.run_in_executor(None, call)


def _after_rollback(session: Session) -> None:
    if not session.in_nested_transaction():
        session.info.pop(_CALLS, None)


def _address(engine: Engine) -> tuple[str, str | None, int | None, str | None]:
    return engine.url.get_backend_name(), engine.url.host, engine.url.port, engine.url.database
