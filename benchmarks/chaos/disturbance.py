"""What the director did to the run, and which executions that may have cut short."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from benchmarks.chaos.ledger import Run

ACK_SECONDS = 0.5
"""How long after the end of its body a task's ack may still be on its way, on a busy machine."""
HAND_OVER_SECONDS = 0.1
"""How long a task may be between worker and pool process, begun on neither side."""


class Kind(StrEnum):
    """The ways to disturb a run."""

    CHILD = "child"  # SIGKILL of a pool process
    WORKER = "worker"  # SIGKILL of a whole worker
    SERVER = "server"  # SIGKILL of the server, restart with its append-only file
    CUT = "cut"  # some of the server's connections closed
    STOP = "stop"  # SIGSTOP of a worker past its lease, then SIGCONT
    PRODUCER = "producer"  # SIGKILL of a producer
    RESTART = "restart"  # SIGTERM of a worker: a warm shutdown, as at each deployment


KILLS = (Kind.CHILD, Kind.WORKER)
"""What counts towards `--kills`."""


@dataclass(slots=True)
class Disturbance:
    """One of them. `until`: when the server was back, or the worker went on."""

    number: int
    kind: Kind
    at: float
    worker: str = ""
    pid: int = 0
    until: float = 0.0
    running: list[str] = field(default_factory=list[str])
    """The marks of the tasks that the ledger knew as running on the victim."""
    held: list[str] = field(default_factory=list[str])
    """The marks of the tasks that the server said the victim held, begun or not."""
    note: str = ""

    def __str__(self) -> str:
        return f"#{self.number} {self.kind}{f' {self.worker}' if self.worker else ''}"

    def hit(self, run: Run) -> bool:
        """Whether the run was in the victim's hands, from its start to its ack: only then may it be repeated.

        Cut connections, warm shutdowns and killed producers excuse nothing: the worker lives on and can still ack.
        """
        acked = _until(run)
        match self.kind:
            case Kind.CHILD:
                return run.pid == self.pid and run.worker == self.worker and acked >= self.at
            case Kind.WORKER:
                return run.worker == self.worker and acked >= self.at
            case Kind.STOP:
                return run.worker == self.worker and run.began <= self.at + HAND_OVER_SECONDS and acked >= self.at
            case Kind.SERVER:
                return run.began <= self.until and acked >= self.at
            case _:
                return False

    def interrupted(self, run: Run) -> bool:
        """Whether the body was being executed by the victim at that moment."""
        if self.kind not in (*KILLS, Kind.STOP) or not self.hit(run):
            return False
        return run.began <= self.at and (run.ended is None or run.ended > self.at)


def _until(run: Run) -> float:
    """Until when the worker may not have acked it; nothing strikes it afterwards."""
    if run.ended is not None:
        return run.ended + ACK_SECONDS
    return float("inf") if run.died is None else run.died
