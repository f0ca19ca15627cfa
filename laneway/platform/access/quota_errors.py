"""Refusals because of quotas, and of a broker whose memory is nearly full."""

from __future__ import annotations

from laneway.platform.errors import PermanentError, RetryableError


class QuotaExceeded(RetryableError):
    """A token, a person or a queue has used up its quota of this minute."""

    status, title = 429, "Quota exceeded"

    template = "The quota of {whose} is used up: {limit} {what} a minute. Nothing was done; try again in {seconds:g} s."
    whose: str
    what: str
    limit: int
    seconds: float

    @property
    def retry_after(self) -> float:
        return self.seconds


class OverQuota(PermanentError):
    """One call asks for more than the quota of a whole minute."""

    status, title = 413, "Over quota"

    template = "{wanted} {what} in one call are more than {whose} may use in a minute ({limit}): send smaller parts."
    whose: str
    what: str
    wanted: int
    limit: int


class BrokerMemoryFull(RetryableError):
    """The broker is close to its limit of memory. It keeps the rest for the tasks that it has."""

    title = "Broker memory full"

    template = (
        "The broker uses {used} of its {limit} bytes of memory, so it takes no further tasks. Nothing was stored. Let "
        "workers work the queues off, or raise BROKER_MAX_MEMORY (`maxmemory` of a server of your own)."
    )
    used: int
    limit: int

    @property
    def retry_after(self) -> float:
        return 10.0
