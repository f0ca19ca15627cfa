"""A limit that learns: when its service asks to wait, all tasks of the limit wait, and the attempt does not count."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest

from app.services.container import Services
from laneway import Limit
from laneway.platform import clock
from laneway.platform.errors import BrokerUnavailable
from laneway.platform.execution.context import Context
from laneway.platform.flow.task_flow import TaskFlow
from laneway.platform.platform import Platform as WholePlatform
from laneway.platform.registry import registry
from laneway.schemas.task import TaskState
from tests.fixtures.emptied import ONE_DATABASE
from tests.fixtures.platform import Platform
from tests.fixtures.registry import register_spec
from tests.laneway.platform.execution.test_task import TaskRunner, runner

assert runner  # a fixture
TASK = "process_conversation_message_task"
Body = Callable[[Context], dict[str, Any]]


@pytest.fixture(autouse=True)
def limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The task has a limit that learns, one of its text that learns, and one that does not."""
    limits = (Limit("api", learn=True), Limit("each", key="message", learn=True), Limit("other"))
    register_spec(monkeypatch, replace(registry[TASK], flow=TaskFlow(limits=limits)))


def answers(status: int, wait: str) -> Body:
    """A task whose service answers so."""

    def body(_: Context) -> dict[str, Any]:
        request = httpx.Request("GET", "https://crm.example.com")
        raise httpx.HTTPStatusError(
            "no", request=request, response=httpx.Response(status, headers={"Retry-After": wait}, request=request)
        )

    return body


def blocked(services: Services, name: str) -> float | None:
    until = services.named_limits.of(name).blocked_until
    return None if until is None else (until - clock.now()).total_seconds()


@ONE_DATABASE
def test_a_429_closes_the_limits_that_learn_for_all_and_the_attempt_does_not_count(
    runner: TaskRunner, platform: Platform, services: Services
) -> None:
    platform.broker.prepare()
    runner.body = answers(429, "600")
    first, second = platform.message("c-1"), platform.message("c-2")
    assert runner.deliver_next() == first

    assert 590 < (blocked(services, "api") or 0) <= 600 and blocked(services, "other") is None
    assert blocked(services, "each") is None, "it is closed for the text of the message alone"
    assert runner.deliver() is None, "no other task of the limit gets through"
    waits = platform.engine.limit_waits("conversations", second)
    assert {wait.name: wait.blocked_until > 0 for wait in waits} == {"api": True, "each": True, "other": False}
    row = platform.row(first)
    assert (row.state, row.attempts) == (TaskState.SCHEDULED, 0)
    assert row.error == "the service behind the limit api, each has asked to wait for 600 s"


@ONE_DATABASE
@pytest.mark.parametrize(("status", "wait"), [(500, "600"), (429, "garbage"), (429, "-1")])
def test_what_asks_for_no_wait_is_retried_as_ever(
    runner: TaskRunner, platform: Platform, services: Services, status: int, wait: str
) -> None:
    runner.body = answers(status, wait)
    id = platform.message()
    assert runner.deliver_next() == id
    assert blocked(services, "api") is None
    assert "no" in (platform.row(id).error or "")


@ONE_DATABASE
@pytest.mark.parametrize("wait", ["0", "Wed, 30 Nov 2016 00:00:00 GMT"])
def test_a_wait_that_is_over_already_is_no_busy_loop(
    runner: TaskRunner, platform: Platform, services: Services, wait: str
) -> None:
    runner.body = answers(503, wait)
    id = platform.message()
    assert runner.deliver_next() == id
    assert 0 < (blocked(services, "api") or 0) <= 1
    assert runner.deliver() is None


@ONE_DATABASE
def test_while_the_broker_is_away_the_task_alone_waits(
    runner: TaskRunner, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise BrokerUnavailable("away")

    monkeypatch.setattr(WholePlatform, "block_limit", away)
    runner.body = answers(429, "600")
    id = platform.message()
    assert runner.deliver_next() == id
    assert platform.row(id).state == TaskState.SCHEDULED
