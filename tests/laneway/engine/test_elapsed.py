"""The server's clock as seen from here: read rarely, and moved on by the time that has passed here."""

from __future__ import annotations

import pytest

from laneway.engine import Engine, elapsed
from laneway.engine.elapsed import SYNC_SECONDS, ServerClock


@pytest.fixture
def passed(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that has passed here: its last item."""
    times = [100.0]
    monkeypatch.setattr(elapsed, "elapsed", lambda: times[-1])
    return times


def test_the_time_is_read_once_and_moved_on(passed: list[float]) -> None:
    read = [5000.0]
    server = ServerClock(read.pop)
    assert server.now() == 5000
    passed.append(100 + SYNC_SECONDS - 1)
    assert server.now() == 5000 + SYNC_SECONDS - 1


def test_the_time_is_read_again_after_a_while_and_when_it_may_have_changed(passed: list[float]) -> None:
    read = [7000.0, 6000.0, 5000.0]
    server = ServerClock(read.pop)
    assert server.now() == 5000
    passed.append(100 + SYNC_SECONDS + 1)
    assert server.now() == 6000
    server.forget()
    assert server.now() == 7000


def test_the_time_of_a_server_is_that_of_its_scripts(still: Engine, engine: Engine) -> None:
    seconds, _ = engine.runner.call("TIME")
    assert abs(engine.time() - int(seconds)) < 5


def test_a_thread_that_forgets_the_time_disturbs_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    server = ServerClock(lambda: 5000.0)
    server.now()

    def elapsed_while_another_thread_forgets() -> float:
        server.forget()
        return 100.0

    monkeypatch.setattr(elapsed, "elapsed", elapsed_while_another_thread_forgets)
    assert isinstance(server.now(), float)
