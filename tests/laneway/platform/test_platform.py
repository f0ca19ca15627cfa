"""The platform of a process: made once, at its first use, and made anew in a forked child."""

from __future__ import annotations

import pytest

from laneway.platform import current as module
from laneway.platform.current import current_platform, forget_platform, use_platform
from laneway.platform.execution.attempts import EngineAttempts
from laneway.platform.platform import Platform
from tests.fixtures import platform as fixtures


@pytest.fixture(autouse=True)
def no_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process has no platform yet."""
    monkeypatch.setattr(module, "_make", None)
    monkeypatch.setattr(module, "_current", None)


@pytest.fixture
def made(platform: fixtures.Platform) -> Platform:
    """A platform on the servers of this test."""
    return Platform(platform.settings, platform.app)


def test_without_a_way_to_make_it_the_error_names_the_function_to_call() -> None:
    with pytest.raises(RuntimeError, match=r"call laneway\.platform\.current\.use_platform first"):
        current_platform()


def test_it_is_made_once_and_again_after_it_was_forgotten(made: Platform) -> None:
    calls: list[Platform] = []

    def make() -> Platform:
        calls.append(Platform(made.settings, made._app))  # pyright: ignore[reportPrivateUsage]
        return calls[-1]

    use_platform(make)
    assert calls == []
    first = current_platform()
    assert current_platform() is first
    assert forget_platform() is first
    assert current_platform() is not first
    assert len(calls) == 2


def test_its_services_share_one_database_and_one_broker(made: Platform) -> None:
    try:
        handle = made.tasks.submit("cleanup_old_data_task", {})
        assert made.tasks.status(handle.task_id).queue == "maintenance"
        assert isinstance(made.attempts, EngineAttempts)
        assert made.tasks is made.tasks
        assert made.workflow_figures({}) == {}
    finally:
        made.close()


def test_to_close_it_unused_connects_to_nothing(made: Platform) -> None:
    made.close()

    assert not {"broker", "database", "results"} & set(made.__dict__)
