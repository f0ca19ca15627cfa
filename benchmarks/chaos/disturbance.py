"""The disturbances of a run, and the executions that each of them may have interrupted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from benchmarks.chaos.ledger import Run

ACK_SECONDS = 0.5
"""Seconds after the end of its body in which a task's ack may not have been sent, on a busy machine."""
RECONNECT_SECONDS = 8.0
"""Seconds that a worker may take to connect again before it acks what ended meanwhile. Celery waits 2 s, then 4 s."""
HAND_OVER_SECONDS = 0.1
"""Seconds that a task may be on its way from the worker to the pool process, where it has not begun."""


class Kind(StrEnum):
    """The ways to disturb a run."""

    CHILD = "child"  # SIGKILL of a pool process
    WORKER = "worker"  # SIGKILL of a whole worker
    SERVER = "server"  # SIGKILL of the server, restart with its append-only file
    CUT = "cut"  # some of the server's connections closed
    STOP = "stop"  # SIGSTOP of a worker past its lease, then SIGCONT
    PRODUCER = "producer"  # SIGKILL of a producer
    FULL = "full"  # the server's memory is full for seconds: it refuses what may need memory
    CLOCK = "clock"  # the server's clock jumps, forward past every lease or back
    FAILOVER = "failover"  # SIGKILL of the primary; its replica is promoted
    RESTART = "restart"  # SIGTERM of a worker: a warm shutdown, as at each deployment


KILLS = (Kind.CHILD, Kind.WORKER)
"""The kinds that count towards `--kills`."""


@dataclass(slots=True)
class Disturbance:
    """One disturbance. `until`: when the server was back, or the worker continued.

    `moved`: seconds that the server's clock jumped; less than 0: back.
    """

    number: int
    kind: Kind
    at: float
    worker: str = ""
    pid: int = 0
    until: float = 0.0
    moved: float = 0.0
    running: list[str] = field(default_factory=list[str])
    """The marks of the tasks that ran on the victim, as the ledger says."""
    held: list[str] = field(default_factory=list[str])
    """The marks of the tasks that the victim held, begun or not, as the server says."""
    note: str = ""

    def __str__(self) -> str:
        return f"#{self.number} {self.kind}{f' {self.worker}' if self.worker else ''}"

    def hit(self, run: Run) -> bool:
        """Whether it happened between the run's start and its ack, in the victim: only then may the task be repeated.

        Cut connections, full servers, warm shutdowns and killed producers do not count: the worker can still ack.
        """
        acked = _until(run)
        match self.kind:
            case Kind.CHILD:
                return run.pid == self.pid and run.worker == self.worker and acked >= self.at
            case Kind.WORKER:
                return run.worker == self.worker and acked >= self.at
            case Kind.STOP:
                return run.worker == self.worker and run.began <= self.at + HAND_OVER_SECONDS and acked >= self.at
            case Kind.SERVER | Kind.FAILOVER:
                return run.began <= self.until and acked >= self.at
            case Kind.CLOCK:  # only a jump forward ends leases
                return self.moved > 0 and run.began <= self.until and acked >= self.at
            case _:
                return False

    def interrupted(self, run: Run) -> bool:
        """Whether the victim executed the body at that moment."""
        return self.kind in (*KILLS, Kind.STOP) and self.hit(run) and self._was_running(run)

    def ended_lease(self, run: Run) -> bool:
        """Whether the body was executed while the lease on its task was lost, so that others may execute the task."""
        return self.interrupted(run) or (self.kind in (Kind.CLOCK, Kind.FAILOVER) and self.hit(run))

    def _was_running(self, run: Run) -> bool:
        return run.began <= self.at and (run.ended is None or run.ended > self.at)


def ack_time(run: Run, disturbances: Iterable[Disturbance]) -> float | None:
    """The latest time at which the ack of a run that ended may have been sent. A broken connection delays it."""
    if run.ended is None:
        return None
    acked = run.ended + ACK_SECONDS
    for one in disturbances:
        if one.kind in (Kind.CUT, Kind.SERVER, Kind.FAILOVER) and one.at <= acked:
            back = max(one.at, one.until) + RECONNECT_SECONDS
            acked = max(acked, back) if back >= run.ended else acked
    return acked


def _until(run: Run) -> float:
    """The latest time at which the run may not have been acked; later disturbances do not affect it."""
    if run.ended is not None:
        return run.ended + ACK_SECONDS if run.acked is None else run.acked
    return float("inf") if run.died is None else run.died
