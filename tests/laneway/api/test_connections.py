"""Which connections are counted, dropped and refused."""

from __future__ import annotations

import resource
from dataclasses import dataclass

import pytest

from laneway.api.connections import FEWEST, RESERVED_FILES, Connections, most_connections


@dataclass(eq=False)
class Peer:
    """A connection of a client."""

    address: str
    connections: Connections
    dropped: bool = False

    def drop(self) -> None:
        """Note that it was closed."""
        self.dropped = True
        self.connections.remove(self)


def test_the_connection_that_has_waited_longest_makes_room() -> None:
    connections = Connections(most=3, most_per_client=2)
    peers = [Peer(address, connections) for address in ("a", "a", "b", "c", "a")]
    assert [connections.add(peer) for peer in peers[:3]] == [True] * 3
    connections.work(peers[0])

    assert connections.add(peers[3]), "any client's waiting connection makes room when all are taken"
    assert [peer.dropped for peer in peers] == [False, True, False, False, False]
    connections.work(peers[2])
    connections.work(peers[3])
    assert not connections.add(peers[4]), "none waits"
    connections.wait(peers[2])
    assert connections.add(peers[4])
    assert peers[2].dropped


def test_a_client_with_as_many_as_it_may_loses_its_own_only() -> None:
    connections = Connections(most=10, most_per_client=2)
    other, first, second, third = (Peer(address, connections) for address in ("b", "a", "a", "a"))
    for peer in (other, first, second):
        assert connections.add(peer)
    connections.work(first)
    connections.work(second)
    assert not connections.add(third)
    connections.wait(second)

    assert connections.add(third)
    assert (second.dropped, other.dropped, first.dropped) == (True, False, False)


def test_there_are_fewer_connections_than_files(monkeypatch: pytest.MonkeyPatch) -> None:
    for files, expected in ((256, 256 - RESERVED_FILES), (50, FEWEST), (10_000, 1000), (resource.RLIM_INFINITY, 1000)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, files=files: (files, files))
        assert most_connections(1000) == expected
