"""The options of one run. Its processes get them in one environment variable."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
VARIABLE = "CHAOS_PLAN"
WORKER = "CHAOS_WORKER"
"""The environment variable with the name of a worker's process, such as `prefork-1.7`."""
POOLS = {"prefork": 2, "threads": 4, "solo": 1}
"""Pool → concurrency."""
PRIMARY = "chaos"
"""The name under which the Sentinel knows the primary."""
MIXED, SHORT = "mixed", "short"
WORKS = (MIXED, SHORT)
"""Tasks of all kinds, or only tasks of 2-10 ms, which show how many finished tasks a kill repeats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The options of one run. Times are in seconds; `rate` is tasks per second of all producers together."""

    transport: str = "laneway"
    seed: int = 1
    kills: int = 100
    kinds: tuple[str, ...] = ()
    """The kinds of disturbance that are used; none: all."""
    work: str = MIXED
    seconds: float = 600.0
    lease: float = 10.0
    visibility: float = 10.0
    margin: float = 5.0
    pools: tuple[str, ...] = ("prefork", "prefork", "solo", "threads")
    producers: int = 2
    rate: float = 24.0
    most_waiting: int = 150
    max_tasks_per_child: int = 30
    """A prefork worker replaces a pool process after this many tasks; 0: never."""
    failover: bool = True
    """Whether there is a replica, with a Sentinel that promotes it. Only with the engine."""
    fsync: str = "always"
    port: int = 0
    """The port of the server, or of the Sentinel."""
    folder: Path = ROOT / "data" / "chaos"

    @property
    def is_pair(self) -> bool:
        """Whether a Sentinel watches a primary and its replica. Stock kombu cannot wait for the replica."""
        return self.failover and self.transport == "laneway"

    def url(self, database: int) -> str:
        """The URL of a database of the server."""
        return f"{'sentinel' if self.is_pair else 'redis'}://127.0.0.1:{self.port}/{database}"

    @property
    def redelivery_seconds(self) -> float:
        """Seconds after which the transport hands out again the messages that a dead worker held."""
        return self.lease if self.transport == "laneway" else self.visibility

    @property
    def accepted_log(self) -> Path:
        """The ledger's records of producers."""
        return self.folder / "accepted.log"

    @property
    def executed_log(self) -> Path:
        """The ledger's records of tasks."""
        return self.folder / "executed.log"

    @property
    def hold(self) -> Path:
        """While this file exists, producers pause: enough tasks wait."""
        return self.folder / "hold"

    def environment(self) -> dict[str, str]:
        """The environment of the run's processes."""
        return {**os.environ, VARIABLE: json.dumps(asdict(self), default=str)}

    def under(self, name: str, *, port: int) -> Plan:
        """The same options in the subfolder `name`, with the server's port."""
        return replace(self, folder=self.folder / name, port=port)


def from_environment() -> Plan:
    """The plan of the run that started this process."""
    given: dict[str, Any] = json.loads(os.environ[VARIABLE])
    given |= {"folder": Path(given["folder"]), "pools": tuple(given["pools"]), "kinds": tuple(given["kinds"])}
    return Plan(**given)
