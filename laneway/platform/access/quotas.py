"""Counts what tokens, people and queues use, and refuses what is over a quota. The package `limits` does the counting.

Requests are counted in the memory of the process, so that a refusal costs nothing. Tasks and bytes are counted at the
broker, for all processes together, or in the memory of the process while the broker cannot be reached. A window is one
minute, and begins with the first use.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Final

from laneway.platform.access.caller import Caller
from laneway.platform.access.quota_errors import OverQuota
from laneway.platform.broker import Broker
from laneway.platform.errors import BrokerUnavailable
from laneway.platform.settings.quotas import QuotaSettings

if TYPE_CHECKING:  # it brings a package that a process without quotas does not need
    from laneway.platform.access.quota_counters import Counter

COUNTED: Final = frozenset({"token", "person"})
"""The kinds of callers that have quotas."""


class Quotas:
    """Counts and refuses."""

    def __init__(self, settings: QuotaSettings, broker: Broker) -> None:
        self._settings, self._broker = settings, broker

    def count_request(self, caller: Caller) -> None:
        """Count a request. Raises QuotaExceeded."""
        if caller.kind not in COUNTED:
            return
        limit = self._settings.of_caller(caller.kind, caller.name).requests
        if limit:
            self._own.count(_whose(caller), "requests", limit=limit, cost=1)

    def count_tasks(self, caller: Caller, wanted: dict[str, tuple[int, int]]) -> None:
        """Count tasks that are submitted. `wanted`: queue → tasks, bytes of payloads.

        Raises QuotaExceeded, and OverQuota for more than the quota of a minute. What is refused counts, too.
        """
        tasks, size = (sum(each) for each in zip(*wanted.values(), strict=True)) if wanted else (0, 0)
        if caller.kind in COUNTED:
            quota = self._settings.of_caller(caller.kind, caller.name)
            self._count(_whose(caller), "tasks", limit=quota.tasks, cost=tasks)
            self._count(_whose(caller), "bytes", limit=quota.bytes, cost=size)
        for queue, (tasks, size) in wanted.items():
            if (quota := self._settings.of_queue(queue)) is not None:
                self._count(f"the queue {queue!r}", "tasks", limit=quota.tasks, cost=tasks)
                self._count(f"the queue {queue!r}", "bytes", limit=quota.bytes, cost=size)

    def _count(self, whose: str, what: str, *, limit: int | None, cost: int) -> None:
        if not limit or not cost:
            return None
        if cost > limit:
            raise OverQuota(whose, what, cost, limit)
        if self._broker.engine is not None:
            try:
                with self._broker.guarded():
                    return self._shared.count(whose, what, limit=limit, cost=cost)
            except BrokerUnavailable:
                pass
        return self._own.count(whose, what, limit=limit, cost=cost)

    @cached_property
    def _own(self) -> Counter:
        from laneway.platform.access.quota_counters import Counter, MemoryStorage

        return Counter(MemoryStorage())

    @cached_property
    def _shared(self) -> Counter:
        from laneway.platform.access.quota_counters import Counter, EngineCounters

        return Counter(EngineCounters(self._broker.require_engine("quotas")))


def _whose(caller: Caller) -> str:
    return f"the {caller.kind} {caller.name!r}"
