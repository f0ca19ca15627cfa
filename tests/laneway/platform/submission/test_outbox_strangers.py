"""Rows that cannot be made into messages, as of another version: they become dead letters and block nothing."""

from __future__ import annotations

from contextlib import suppress
from ssl import SSLCertVerificationError
from typing import Any

import pytest
from sqlalchemy import update

from laneway.engine import Engine
from laneway.platform.broker import Broker
from laneway.platform.db.models import TaskRun
from laneway.platform.errors import BrokerUnavailable
from laneway.platform.submission.acceptance import SubmitOptions
from laneway.schemas.task import TaskState
from tests.fixtures.platform import Platform

ODD: dict[str, dict[str, Any]] = {
    "a payload that is a list": {"payload": [1, 2]},
    "a uniqueness of another kind": {"options": {"unique": ["k", "for a while", 1]}},
    "a uniqueness for no time": {"options": {"unique": ["k", 1, "long"]}},
    "a time limit in words": {"options": {"time_limit": "soon"}},
    "options that are a list": {"options": [1]},
}


def accepted(platform: Platform, monkeypatch: pytest.MonkeyPatch, *ids: str) -> None:
    """Accept tasks while the broker is away."""

    def refuse(_: Broker, runs: list[TaskRun]) -> list[BrokerUnavailable]:
        return [BrokerUnavailable("away") for _ in runs]

    with monkeypatch.context() as away:
        away.setattr(Broker, "publish_many", refuse)
        with platform.tasks.transaction() as transaction:
            for id in ids:
                transaction.submit("cleanup_old_data_task", {}, options=SubmitOptions(id=id))
    assert {platform.row(id).state for id in ids} == {TaskState.ACCEPTED}


def make_odd(platform: Platform, id: str, values: dict[str, Any]) -> None:
    with platform.database.transaction() as session:
        session.execute(update(TaskRun).where(TaskRun.id == id).values(**values))


@pytest.mark.parametrize("what", ODD)
def test_the_relay_buries_an_unsendable_task_and_sends_the_others(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    accepted(platform, monkeypatch, "first", "odd", "last")
    make_odd(platform, "odd", ODD[what])

    assert platform.tasks.outbox.relay() == 2

    assert platform.sent("maintenance") == ["first", "last"]
    odd = platform.row("odd")
    assert (odd.state, odd.error_type) == (TaskState.DEAD_LETTER, "Unsendable")
    assert odd.error is not None
    assert "No message can be built for task 'odd'" in odd.error
    assert platform.tasks.outbox.relay() == 0


def test_a_single_unsendable_task_becomes_a_dead_letter(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    accepted(platform, monkeypatch, "odd")
    make_odd(platform, "odd", {"payload": [1, 2]})

    assert platform.tasks.outbox.relay() == 0

    assert platform.row("odd").state == TaskState.DEAD_LETTER


def test_an_unsendable_task_becomes_a_dead_letter_when_it_is_sent_again(platform: Platform) -> None:
    platform.tasks.submit("cleanup_old_data_task", {}, id="odd")
    make_odd(platform, "odd", {"payload": [1, 2]})

    assert platform.tasks.send(platform.row("odd"))

    assert platform.row("odd").state == TaskState.DEAD_LETTER


@pytest.mark.parametrize(
    "error", [AttributeError("'NoneType' object has no attribute 'send'"), SSLCertVerificationError("no")]
)
def test_an_error_of_the_broker_buries_nothing(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    accepted(platform, monkeypatch, "first", "last")
    with monkeypatch.context() as broken:
        broken.setattr(Engine, "put_many", fail)
        with suppress(type(error), BrokerUnavailable):
            platform.tasks.outbox.relay()

    assert {platform.row(id).state for id in ("first", "last")} == {TaskState.ACCEPTED}
