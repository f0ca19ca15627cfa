"""The platform with a key ring: what others put into the broker never runs, also not by way of a row."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from laneway.engine import MessageState
from laneway.platform.celery_app import configure_celery
from laneway.platform.db.queries.search import Filter
from laneway.platform.db.session import Database
from laneway.platform.errors import ConfigError, WrongState
from laneway.platform.history.adoption import NOT_SIGNED
from laneway.platform.operations.dead_letters import DeadLetters
from laneway.platform.operations.intake import Intake
from laneway.platform.settings import Settings
from laneway.platform.signing_check import check_signing
from laneway.platform.task_messages import TaskMessages
from laneway.schemas.task import TaskState
from laneway.transport.codec import to_message
from laneway.transport.key_ring import create_ring
from laneway.transport.signatures import NO_SIGNATURES, REASON, Signer
from tests.fixtures.platform import Environment, celery_on, make_platform, settings_for
from tests.fixtures.platform_driver import Platform
from tests.fixtures.valkey import RedisUrls, RunningValkey

QUEUE = "maintenance"
TASK = "cleanup_old_data_task"
Make = Callable[..., Platform]


@pytest.fixture
def signed(
    environment: Environment,
    platform_database: Database,
    redis_urls: RedisUrls,
    tmp_path: Path,
    valkey: RunningValkey,
) -> Generator[Platform]:
    """A platform that requires signatures."""
    ring = tmp_path / "keys.json"
    create_ring(ring)
    settings = settings_for(environment, platform_database, redis_urls, folder=tmp_path, KEY_RING_FILE=str(ring))
    with celery_on(settings) as app:
        platform = make_platform(settings, app, platform_database, valkey=valkey)
        platform.broker.prepare()
        yield platform


def forge(platform: Platform, id: str, queue: str = QUEUE, signer: Signer = NO_SIGNATURES) -> None:
    """Put a task as any program can that reaches the broker; with a signer, as one that has the key ring."""
    made: Any = platform.app.amqp.as_task_v2(id, TASK, (), {})
    content = {"content-type": "application/json", "content-encoding": "utf-8"}
    raw = {"body": json.dumps(made.body), **content, "headers": made.headers, "properties": made.properties}
    platform.engine.put(queue, signer.sign(queue, to_message(raw)))


def take(platform: Platform) -> str | None:
    """Take the next message as a worker gets it, and return its id; None if none came, or it became a dead letter."""
    connection: Any = platform.app.connection_for_read()
    with connection:
        message = connection.channel().basic_get(QUEUE)
        if message is None:
            return None
        message.ack()
        return str(message.headers["id"])


def test_a_submitted_task_is_delivered_and_a_forged_one_is_a_dead_letter_that_cannot_be_retried(
    signed: Platform,
) -> None:
    id = signed.chore()
    assert take(signed) == id
    forge(signed, "forged")
    assert take(signed) is None
    signed.recorder.catch_up()

    row = signed.row("forged")
    assert (row.state, row.options) == (TaskState.DEAD_LETTER, {NOT_SIGNED: True})
    assert row.error is not None
    assert row.error.startswith(f"{REASON}: It has no signature")
    assert row.raw is not None, "its payload is kept"
    signed.engine.discard(QUEUE, [info.stored.id for info in signed.messages(QUEUE, MessageState.DEAD)])
    with pytest.raises(WrongState, match="its message is not signed by us"):
        signed.tasks.retry("forged")
    letters = DeadLetters(signed.database, signed.broker, signed.recorder, signed.tasks)
    assert [run.id for run in letters.page(Filter())] == ["forged"]
    assert letters.requeue(Filter(ids=("forged",))).done == 0
    assert not signed.messages(QUEUE)


def test_a_forged_task_whose_message_was_deleted_is_not_sent_again_by_the_platform(
    signed: Platform,
) -> None:
    forge(signed, "forged")
    signed.recorder.catch_up()
    assert signed.row("forged").options == {NOT_SIGNED: True}
    (info,) = signed.messages(QUEUE)
    signed.engine.cancel(QUEUE, "forged")
    (refusal,) = signed.broker.publish_many([signed.row("forged")])
    assert refusal is not None
    assert "its message is not signed by us" in str(refusal)
    assert not signed.messages(QUEUE)
    assert info.stored.message.name == TASK


def test_a_task_under_the_default_queue_is_signed_for_its_own_queue_only_if_it_was_signed(signed: Platform) -> None:
    forge(signed, "ours", queue="celery", signer=signed.broker.messages.signer)
    forge(signed, "forged", queue="celery")
    assert Intake(signed.broker).take() == 2
    assert take(signed) == "ours"
    assert take(signed) is None
    assert [info.stored.message.task_id for info in signed.messages(QUEUE, MessageState.DEAD)] == ["forged"]


def test_an_app_that_signs_with_celerys_own_serializer_keeps_it(platform_settings: Settings) -> None:
    app = Celery("own", set_as_current=False)
    app.conf.update(task_serializer="auth", accept_content=["auth"])
    configure_celery(app, platform_settings)
    assert (app.conf.task_serializer, app.conf.accept_content) == ("auth", ["auth"])
    assert (app.conf.result_serializer, app.conf.result_accept_content) == ("json", ["json"])
    assert not TaskMessages(app).can_build, "the platform sends by Celery, which serializes and signs"


def test_in_production_a_process_without_keys_does_not_start_unless_it_is_told_to(
    environment: Environment, platform_database: Database, redis_urls: RedisUrls, tmp_path: Path
) -> None:
    def check(**more: str) -> None:
        environment(KEY_RING_FILE="", MESSAGE_SIGNING="", ENVIRONMENT="development")
        check_signing(settings_for(environment, platform_database, redis_urls, folder=tmp_path, **more))

    check()
    check(ENVIRONMENT="production", MESSAGE_SIGNING="off")
    with pytest.raises(ConfigError, match=r"Messages are not signed: .* set KEY_RING_FILE .* or MESSAGE_SIGNING=off"):
        check(ENVIRONMENT="production")
    with pytest.raises(ConfigError, match=r"KEY_RING_FILE: The key ring .* does not exist; `laneway keys create`"):
        check(KEY_RING_FILE=str(tmp_path / "none.json"))
    with pytest.raises(ConfigError, match="MESSAGE_SIGNING=require needs KEY_RING_FILE"):
        check(MESSAGE_SIGNING="require")
    create_ring(tmp_path / "keys.json")
    check(ENVIRONMENT="production", KEY_RING_FILE=str(tmp_path / "keys.json"))
    with pytest.raises(ConfigError, match="needs the delivery engine"):
        check(KEY_RING_FILE=str(tmp_path / "keys.json"), MESSAGE_SIGNING="require", BROKER_TRANSPORT="celery")
