"""A primary, its replica, and a Sentinel that promotes the replica when the primary is dead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from redis.exceptions import RedisError

from benchmarks.chaos.clock import MovableClock
from benchmarks.chaos.plan import PRIMARY
from benchmarks.chaos.server import Node, Server, free_port, wait_for

DOWN_SECONDS = 3
"""A primary that is silent for this long is replaced. A server that is killed and started again is back earlier."""
SENTINEL = """port {port}
bind 127.0.0.1
dir {folder}
sentinel monitor {name} 127.0.0.1 {primary} 1
sentinel down-after-milliseconds {name} {down}
sentinel failover-timeout {name} 3000
"""


class Pair(Server):
    """Two servers and a Sentinel on `port`. `kill` and `start` act on the primary; `fail_over` replaces it."""

    def __init__(self, folder: Path, *, port: int, fsync: str, clock: MovableClock | None = None) -> None:
        super().__init__(folder / "first", port=free_port(), fsync=fsync, clock=clock)
        self._other = Node(folder / "second", port=free_port(), clock=clock)
        self._sentinel, self._folder = Node(folder / "sentinel", port=port), folder

    @property
    def replica(self) -> Node:
        """The process that follows the primary, or that was killed as the primary."""
        return self._other

    def start(self) -> None:
        """Start all processes, or only the primary again if it was killed. Raises NoServer."""
        super().start()
        if self._sentinel.answers():
            return
        self._other.start_server(fsync=self._fsync, primary=self.primary.port)
        wait_for(self._follows, "the replica does not follow the primary")
        file = self._folder / "sentinel" / "sentinel.conf"
        file.write_text(
            SENTINEL.format(
                port=self._sentinel.port,
                folder=file.parent,
                name=PRIMARY,
                primary=self.primary.port,
                down=DOWN_SECONDS * 1000,
            )
        )
        self._sentinel.start(str(file), "--sentinel")
        wait_for(lambda: self._watched().get("num-slaves", 0) > 0, "the Sentinel does not find the replica")

    def end(self) -> None:
        """Kill all processes."""
        for node in (self._sentinel, self._node, self._other):
            node.kill()

    def answers(self) -> bool:
        """Whether the primary answers and its replica follows it."""
        return self.primary.answers() and self._follows()

    def is_promoted(self) -> bool:
        """Whether the Sentinel has promoted the replica; if so, it is the primary from now on."""
        promoted = self._other.info("replication").get("role") == "master"
        if not promoted or int(self._watched().get("port", 0)) != self._other.port:
            return False
        self._node, self._other = self._other, self._node
        return True

    def rejoin(self) -> None:
        """Start the former primary as the replica of the new one."""
        self._other.start_server(fsync=self._fsync, primary=self.primary.port)

    def _follows(self) -> bool:
        info = self._other.info("replication")
        return info.get("role") == "slave" and info.get("master_link_status") == "up"

    def _watched(self) -> dict[str, Any]:
        try:
            with self._sentinel.client() as client:
                raw: Any = client
                return raw.sentinel_masters().get(PRIMARY, {})
        except RedisError:
            return {}
