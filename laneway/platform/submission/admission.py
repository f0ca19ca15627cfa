"""Decides whether further tasks may come in: the memory of the broker, and the quotas of the caller and of the queues.

What the platform itself submits to go on with its work, such as the next step of a workflow, is always let in.
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from time import monotonic
from typing import Final

from laneway.platform.access.caller import current_caller
from laneway.platform.access.quota_errors import BrokerMemoryFull
from laneway.platform.access.quotas import Quotas
from laneway.platform.broker import Broker
from laneway.platform.errors import BrokerUnavailable
from laneway.platform.flow.task_flow import FLOW
from laneway.platform.payload_store import PayloadStore
from laneway.platform.submission.acceptance import Row, payload_bytes

READ_SECONDS: Final = 0.25
"""The broker's memory is read at most so often. What this process submits in between is added."""
SHARE: Final = 0.8
"""The part of the broker's memory that waiting tasks may fill. Leases, journals and results need the rest."""
MESSAGE_SHARE, MESSAGE_BYTES = 1.3, 1024
"""A message takes about the bytes of its payload times the first, and the second, at the broker."""


class Admission:
    """Lets submissions in, or refuses them."""

    def __init__(self, broker: Broker, quotas: Quotas | None = None, *, store: PayloadStore | None = None) -> None:
        """`store`: where large payloads lie, which take no memory of the broker. None: nowhere."""
        self._quotas, self._memory, self._store = quotas, BrokerMemory(broker), store or PayloadStore()
        self._broker = broker

    def admit(self, rows: Sequence[Row], *, inside: bool = False) -> None:
        """Let these rows in, whose payloads are not in the storage yet.

        `inside`: the platform goes on with its work, unless a request is behind it.

        Raises BrokerMemoryFull, QuotaExceeded, OverQuota; without the engine Unsupported, for a row with limits,
        labels, a tenant or a deadline. Nothing is stored then.
        """
        if any(FLOW in row["options"] for row in rows):
            self._broker.require_engine("limits, labels, tenants and deadlines of tasks")
        caller = current_caller()
        if inside and caller.request_id is None:
            return
        wanted, in_messages = dict[str, tuple[int, int]](), 0
        for row in rows:
            tasks, size = wanted.get(row["queue"], (0, 0))
            given = payload_bytes(row["payload"])
            wanted[row["queue"]] = tasks + 1, size + given
            in_messages += round(self._store.bytes_in_message(given) * MESSAGE_SHARE) + MESSAGE_BYTES
        if self._quotas is not None:
            self._quotas.count_tasks(caller, wanted)
        self._memory.take(in_messages)


class BrokerMemory:
    """The memory of the broker, as far as it has a limit."""

    def __init__(self, broker: Broker) -> None:
        self._broker, self._lock = broker, Lock()
        self._read_at, self._used, self._limit = -READ_SECONDS, 0, 0

    def take(self, size: int) -> None:
        """Count bytes that the broker gets. Raises BrokerMemoryFull if it has no room for them."""
        with self._lock:
            if monotonic() - self._read_at >= READ_SECONDS:
                self._read()
            if self._limit and self._used + size > self._limit * SHARE:
                raise BrokerMemoryFull(self._used, self._limit)
            self._used += size

    def refusal(self) -> BrokerMemoryFull | None:
        """The error with which a task is refused now, however small it is; None if one would be let in."""
        with self._lock:
            self._read()
            full = self._limit and self._used + MESSAGE_BYTES > self._limit * SHARE
            return BrokerMemoryFull(self._used, self._limit) if full else None

    def _read(self) -> None:
        """Read the memory; a broker that does not say it, or that is away, has no limit for now."""
        self._used = self._limit = 0
        self._read_at = monotonic()
        if self._broker.engine is None:
            return
        try:
            with self._broker.guarded():
                self._used, self._limit = self._broker.engine.memory()
        except BrokerUnavailable:
            return
