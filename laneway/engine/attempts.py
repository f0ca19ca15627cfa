"""The attempts at a leased message: their start, their reports and their outcome, each written to the journal."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from laneway.engine.admin import Admin
from laneway.engine.batches import split
from laneway.engine.connection import Argument, Command
from laneway.engine.journal import EventKind
from laneway.engine.lease import Lease
from laneway.engine.message import MAX_TEXT
from laneway.engine.replies import AckAction, LeaseStatus

MOST: Final = 100
"""Calls that are sent together."""
MOST_BYTES: Final = 1_048_576
"""Bytes of outcomes that are sent together."""


@dataclass(frozen=True, slots=True)
class AttemptStart:
    """An attempt to start: as for `Attempts.start_attempt`."""

    lease: Lease
    call: bytes
    most: int | None = None


@dataclass(frozen=True, slots=True)
class AttemptEnd:
    """An attempt to finish: as for `Attempts.finish_attempt`."""

    lease: Lease
    action: AckAction
    outcome: str = ""
    delay_ms: int = 0


class Attempts(Admin):
    """The operations of an attempt."""

    def start_attempt(
        self, lease: Lease, *, worker: str, call: bytes | None = None, most: int | None = None, note: str = ""
    ) -> tuple[LeaseStatus, int, bytes]:
        """Start an attempt. DONE, its number from 1, and the `call` id of the attempt before (empty for the first one).

        CANCELLED: do not run it; STALE or UNKNOWN: the lease was lost. Also STALE when an attempt under this lease has
        finished: its ack action stands. Who repeats the call after ServerLost passes the same `call` id, so that no
        second attempt is started. EXHAUSTED and the number of the last attempt: the message has had `most` of them. The
        journal gets the `note`.
        """
        start = AttemptStart(lease, call or secrets.token_bytes(8), most)
        return self.start_attempts([start], worker=worker, note=note)[0]

    def start_attempts(
        self, starts: Sequence[AttemptStart], *, worker: str, note: str = ""
    ) -> list[tuple[LeaseStatus, int, bytes]]:
        """Start attempts as `start_attempt` does, each for itself, but together in few round trips."""
        name = worker[:MAX_TEXT]
        replies: list[Any] = []
        for part in split(starts, lambda _: 0, most=MOST, most_bytes=MOST_BYTES):
            replies += self._run_each(
                "start_attempt",
                [(start.lease, (name, start.call, b"" if start.most is None else start.most, note)) for start in part],
            )
        return [(LeaseStatus(code), number, previous) for code, number, previous in replies]

    def finish_attempt(self, lease: Lease, action: AckAction, *, outcome: str = "", delay_ms: int = 0) -> LeaseStatus:
        """Finish the attempt and record its `action`. The ack carries it out, or the server when the lease expires.

        `delay_ms`: the delay of a RETRY or SNOOZE. `outcome` is written to the journal unchanged. DONE, also when the
        attempt already has an action, which stands; STALE or UNKNOWN: the lease was lost, and nothing was changed.
        """
        return self.finish_attempts([AttemptEnd(lease, action, outcome, delay_ms)])[0]

    def finish_attempts(self, ends: Sequence[AttemptEnd]) -> list[LeaseStatus]:
        """Finish attempts as `finish_attempt` does, each for itself, but together in few round trips."""
        codes: list[LeaseStatus] = []
        for part in split(ends, lambda end: len(end.outcome), most=MOST, most_bytes=MOST_BYTES):
            calls = [(end.lease, (int(end.action), end.delay_ms, end.outcome)) for end in part]
            codes += map(LeaseStatus, self._run_each("finish_attempt", calls))
        return codes

    def report(self, lease: Lease, kind: EventKind, text: str) -> LeaseStatus:
        """Write progress or a log line to the journal; a full journal drops it.

        DONE; CANCELLED: written, but the task was cancelled; STALE or UNKNOWN: the lease was lost, nothing is written.
        """
        return LeaseStatus(self._run("report", lease.queue, kind.value, text, lease.raw_id, lease.token))

    def _run_each(self, name: str, calls: Sequence[tuple[Lease, tuple[Argument, ...]]]) -> list[Any]:
        """Run a script for each lease, with its arguments, in one round trip; return the replies."""
        script = self.runner.scripts[name]
        commands: list[Command] = [
            (b"EVALSHA", script.sha, 1, self.keys.queue(lease.queue), *args, lease.raw_id, lease.token)
            for lease, args in calls
        ]
        return self.runner.on_connection(lambda connection: self.runner.evaluate_all(connection, script, commands))
