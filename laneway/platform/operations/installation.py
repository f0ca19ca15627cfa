"""The identity of an installation: the processes that share one database.

The database has the id. A broker is marked with it, so that a command that reaches the broker of another installation,
for example on the default port, notices it before it records or changes anything there.
"""

from __future__ import annotations

from time import monotonic
from typing import Any, Final

from laneway.platform import clock
from laneway.platform.broker import Broker
from laneway.platform.db.queries import installation as repository
from laneway.platform.db.session import Database
from laneway.platform.errors import BrokerUnavailable, PlatformError
from laneway.platform.logging import logger

log = logger(__name__)

CHECK_SECONDS: Final = 1.0
"""A write that succeeded answers further questions for this long."""
ROOM: Final = 32_768
"""Bytes for which a SQLite file must have room: a task with a payload of some size."""


class ForeignBroker(PlatformError):
    """The broker holds the queues of another installation. Its tasks must not be recorded or changed here."""

    status, title = 503, "Foreign broker"

    template = (
        "The broker at {address} belongs to another installation ({owner}); this one is {own}: correct REDIS_PORT or "
        "REDIS_URL (or DATA_DIR, DATABASE_URL), or start its own broker with `laneway up`. Only if this database takes "
        "the place of a lost one: `laneway prepare --adopt-broker`."
    )
    address: str
    owner: str
    own: str


class Installation:
    """The installation that this process belongs to."""

    def __init__(self, database: Database, broker: Broker, *, broker_address: str) -> None:
        """`broker_address`: without a login, for people to read."""
        self._database, self._broker, self._broker_address = database, broker, broker_address
        self._id: str | None = None
        self._written = -CHECK_SECONDS

    @property
    def id(self) -> str:
        """The id of the installation; it is made at the first use of a database. Raises DatabaseUnavailable."""
        if self._id is None:
            with self._database.reading() as session:
                found = repository.find_id(session)
            if found is None:
                with self._database.transaction() as session:
                    found = repository.make_id(session, now=clock.now())
            self._id = found
        return self._id

    def check_writes(self) -> None:
        """Store something, to see whether the database takes a write.

        Raises DatabaseUnavailable, or DatabaseFull when the disk is full: reading alone would not notice that.
        """
        if monotonic() - self._written < CHECK_SECONDS:
            return
        _ = self.id
        with self._database.transaction() as session:
            # A row that is only changed needs no room. PostgreSQL would keep each of the old versions for a while.
            repository.write(session, now=clock.now(), room=ROOM if self._database.is_sqlite else 0)
        self._written = monotonic()

    def check_broker(self, *, adopt: bool = False) -> None:
        """Mark the broker as ours; with `adopt`, also one that another installation has marked.

        Does nothing without the delivery engine, or while the broker cannot be used. Raises ForeignBroker,
        DatabaseUnavailable.
        """
        engine, own = self._broker.engine, self.id
        if engine is None:
            return
        try:
            with self._broker.guarded():
                owner = engine.mark(own, replace=adopt)
        except BrokerUnavailable as error:
            log.warning("not known whose broker it is", error=str(error))
            return
        if owner != own:
            raise ForeignBroker(self._broker_address, owner, own)

    def refuse_foreign_broker(self) -> None:
        """As `check_broker`, but mark nothing: raise ForeignBroker if another installation has marked the broker.

        Raises BrokerUnavailable, DatabaseUnavailable.
        """
        engine = self._broker.engine
        with self._database.reading() as session:
            own = repository.find_id(session)
        if engine is None or own is None:
            return
        with self._broker.guarded():
            owner: Any = engine.runner.call("GET", engine.keys.owner())
        if owner is not None and owner != own.encode():
            raise ForeignBroker(self._broker_address, owner.decode(errors="replace"), own)
