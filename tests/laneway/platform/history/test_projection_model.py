"""Runs the state machine that compares the history with a model of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from laneway.platform.db.session import Database
from laneway.platform.operations import maintenance
from laneway.platform.registry import registry
from tests.fixtures.budget import budget
from tests.fixtures.platform import Environment, Platform, celery_on, make_platform, settings_for
from tests.fixtures.registry import register_spec
from tests.fixtures.valkey import RedisUrls
from tests.laneway.platform.history.projection_machine import MAX_RETRIES, QUEUE, HistoryMachine


@pytest.fixture
def platforms(
    environment: Environment,
    sqlite_template: Path,
    redis_urls: RedisUrls,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[[], Platform]]:
    """Creates fresh platforms, each with its own database file and an empty broker."""
    monkeypatch.setattr(maintenance, "MISSING_AFTER", timedelta(seconds=-1))
    spec = replace(registry["send_webhook_response_task"], own_queue=QUEUE, max_retries=MAX_RETRIES)
    register_spec(monkeypatch, spec)
    databases: list[Database] = []
    path = tmp_path / "history.db"
    shutil.copyfile(sqlite_template, path)
    first = Database(f"sqlite:///{path}")
    config = settings_for(environment, first, redis_urls, folder=tmp_path)
    first.close()

    with celery_on(config) as app:

        def fresh() -> Platform:
            while databases:
                databases.pop().close()
            for name in (path, path.with_name("history.db-wal"), path.with_name("history.db-shm")):
                name.unlink(missing_ok=True)
            shutil.copyfile(sqlite_template, path)
            databases.append(Database(config.storage.url))
            platform = make_platform(config, app, databases[-1], valkey=redis_urls.valkey)
            platform.lose(QUEUE)
            platform.broker.prepare()
            return platform

        yield fresh
        while databases:
            databases.pop().close()


@pytest.mark.timeout(600)  # Hypothesis shrinks a failure before it shows it, which takes minutes
def test_the_history_agrees_with_its_model(platforms: Callable[[], Platform]) -> None:
    run_state_machine_as_test(
        lambda: HistoryMachine(platforms()),  # pyright: ignore[reportArgumentType]  any factory will do
        settings=settings(
            max_examples=budget(short=10, long=100),
            stateful_step_count=50,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
