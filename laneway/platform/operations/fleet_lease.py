"""A lease that one process of the fleet holds at a time, for work that is enough when one does it.

The lease is a row with a holder and a count of renewals. The holder renews it each time before it works. The others
read it, and take it over when the count has stood still for `seconds` on their own clock. So no clocks are compared:
neither those of two machines, nor a clock with itself after it was set.

A holder that was suspended may work for a moment beside its successor: the work must be safe when two do it.
"""

from __future__ import annotations

import secrets

from laneway.engine.elapsed import elapsed
from laneway.platform.db.queries import fleet_leases
from laneway.platform.db.queries.fleet_leases import Holding
from laneway.platform.db.session import Database
from laneway.platform.logging import logger

log = logger(__name__)


class FleetLease:
    """One process's view of a lease. Only one thread uses it."""

    def __init__(self, database: Database, name: str, *, worker: str, seconds: float) -> None:
        """`worker` names the holder for people to read. `seconds`: a holder that did not renew for so long is dead."""
        self._database, self._name, self._seconds = database, name, seconds
        self.holder = f"{worker[:200]}/{secrets.token_hex(4)}"
        """Differs from the holder of an earlier process of the same name, which may be dead."""
        self._holds = False
        self._seen: Holding | None = None
        self._seen_since = 0.0

    def hold(self) -> bool:
        """Renew the lease, or take it if it is free or its holder is dead; True if this process holds it now.

        Raises DatabaseUnavailable.
        """
        if self._holds:
            with self._database.transaction() as session:
                self._holds = fleet_leases.renew(session, self._name, holder=self.holder)
            if not self._holds:
                log.warning("lease of the fleet lost: this process did not renew it in time", lease=self._name)
        return self._holds or self._take()

    def release(self) -> None:
        """Give the lease back, so that another process takes it at its next call. Raises DatabaseUnavailable."""
        if self._holds:
            self._holds = False
            with self._database.transaction() as session:
                fleet_leases.give_up(session, self._name, holder=self.holder)

    def _take(self) -> bool:
        with self._database.reading() as session:
            current = fleet_leases.read(session, self._name)
        if current != self._seen:
            self._seen, self._seen_since = current, elapsed()
        if current is not None and current.holder != self.holder and elapsed() - self._seen_since < self._seconds:
            return False  # its holder may be alive. A lease of our own is one whose commit was not confirmed
        with self._database.transaction() as session:
            self._holds = fleet_leases.take(session, self._name, holder=self.holder, seen=current)
        if self._holds:
            log.info("lease of the fleet taken", lease=self._name, before=current.holder if current else None)
        return self._holds
