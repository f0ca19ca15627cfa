"""The class of requests that a worker on this transport uses; see `laneway.starting`."""

# Celery is untyped.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUntypedBaseClass=false
# pyright: reportUnknownArgumentType=false, reportMissingTypeStubs=false, reportIncompatibleMethodOverride=false

from __future__ import annotations

from celery.worker import request

from laneway.starting import drop_if_lost, stop_if_lost


class Request(request.Request):
    """Celery's, which does not start a message whose lease is over."""

    def revoked(self) -> bool:
        """True if it must be skipped; asked when it comes and when the pool takes it."""
        return drop_if_lost(self) or bool(super().revoked())

    def on_accepted(self, pid: int, time_accepted: float) -> None:
        """A pool in this process runs it next; one of other processes has begun it."""
        stop_if_lost(self, pid)
        super().on_accepted(pid, time_accepted)
