"""When a submission counts as accepted: in the broker's memory, on its disk, or at a replica; each on real servers."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import cast

import pytest
import redis

from laneway.engine import Durability, MessageState
from laneway.platform.db.session import Database
from laneway.platform.errors import NotDurable, Unsupported
from laneway.platform.execution.outcomes import Raised
from laneway.platform.submission.acceptance import SubmitOptions
from laneway.schemas.task import TaskHandle, TaskState
from tests.fixtures.platform import Platform
from tests.fixtures.valkey import RunningValkey, free_port
from tests.fixtures.waiting import wait_until


@pytest.fixture
def platform_database(sqlite_database: Database) -> Database:
    """One database is enough here."""
    return sqlite_database


@pytest.fixture
def no_append_only_file(valkey: RunningValkey) -> Iterator[None]:
    """The server writes nothing to disk during the test."""
    if not valkey.running:
        valkey.start()
    with redis.Redis.from_url(valkey.url(0)) as client:
        client.config_set("appendonly", "no")
        try:
            yield
        finally:
            client.config_set("appendonly", "yes")
            wait_until(lambda: not persistence(client)["aof_rewrite_in_progress"], seconds=30)


def persistence(client: redis.Redis) -> dict[str, int]:
    return cast("dict[str, int]", client.info("persistence"))


@contextmanager
def replica_of(valkey: RunningValkey, folder: Path) -> Generator[None]:
    """A second server that is a replica of the first."""
    second = RunningValkey(folder, port=free_port())
    second.start()
    try:
        with closing(redis.Redis.from_url(second.url(0))) as client:
            client.replicaof("127.0.0.1", str(valkey.port))
            wait_until(lambda: link(client) == "up", seconds=30)
        yield
    finally:
        second.kill()


def link(client: redis.Redis) -> str:
    return cast("dict[str, str]", client.info("replication"))["master_link_status"]


def test_a_task_is_accepted_when_its_message_is_on_disk(platform: Platform) -> None:
    handle = platform.tasks.submit(
        "cleanup_old_data_task", {}, options=SubmitOptions(id="safe", durability=Durability.DISK)
    )

    assert handle == TaskHandle(task_id="safe", state=TaskState.PENDING, created=True)
    assert platform.sent("maintenance") == ["safe"]
    platform.valkey.kill()
    platform.valkey.start()
    assert platform.sent("maintenance") == ["safe"]
    assert platform.work("maintenance") == "safe"


def test_the_delay_the_priority_and_the_key_go_with_a_durable_message_too(platform: Platform) -> None:
    payload = {"conversation_id": "c-1", "message": "Hello"}
    for id, delay in (("later", 60.0), ("behind", 0.0)):
        platform.tasks.submit(
            "process_conversation_message_task",
            payload,
            options=SubmitOptions(id=id, delay=delay, durability=Durability.DISK),
        )

    assert platform.places() == {"later": MessageState.SCHEDULED, "behind": MessageState.HELD}


@pytest.mark.usefixtures("no_append_only_file")
def test_without_an_append_only_file_durability_on_disk_is_refused_and_nothing_is_queued(platform: Platform) -> None:
    with pytest.raises(Unsupported, match=r"^This broker does not support durability 'disk': .*appendonly"):
        platform.tasks.submit(
            "cleanup_old_data_task", {}, options=SubmitOptions(id="unsafe", durability=Durability.DISK)
        )

    assert platform.rows() == []
    assert platform.places("maintenance") == {}
    assert platform.tasks.submit("cleanup_old_data_task", {}, id="unsafe").created
    assert platform.sent("maintenance") == ["unsafe"]


@pytest.mark.usefixtures("no_append_only_file")
def test_an_accepted_task_stays_when_a_repeat_asks_for_an_unsupported_durability(platform: Platform) -> None:
    platform.chore("first")

    with pytest.raises(Unsupported):
        platform.tasks.submit(
            "cleanup_old_data_task", {}, options=SubmitOptions(id="first", durability=Durability.DISK)
        )

    assert platform.state("first") == TaskState.PENDING
    assert platform.sent("maintenance") == ["first"]


def test_without_a_replica_durability_is_not_confirmed_and_a_repeat_is_queued_once(
    platform: Platform, tmp_path: Path
) -> None:
    for _ in range(2):
        with pytest.raises(NotDurable, match="did not confirm durability 'replica' in time") as unconfirmed:
            platform.tasks.submit(
                "cleanup_old_data_task", {}, options=SubmitOptions(id="once", durability=Durability.REPLICA)
            )
        assert (unconfirmed.value.status, unconfirmed.value.retryable) == (503, True)
        assert unconfirmed.value.retry_after
        assert platform.state("once") == TaskState.PENDING
        assert platform.sent("maintenance") == ["once"]

    with replica_of(platform.valkey, tmp_path / "replica"):
        again = platform.tasks.submit(
            "cleanup_old_data_task", {}, options=SubmitOptions(id="once", durability=Durability.REPLICA)
        )
        fresh = platform.tasks.submit("cleanup_old_data_task", {}, options=SubmitOptions(durability=Durability.REPLICA))

    assert again == TaskHandle(task_id="once", state=TaskState.PENDING, created=False)
    assert fresh.created
    assert [row.id for row in platform.rows()] == ["once", fresh.task_id]
    assert platform.sent("maintenance") == ["once", fresh.task_id]
    assert [platform.work("maintenance") for _ in range(3)] == ["once", fresh.task_id, None]


@pytest.mark.parametrize("durability", [Durability.DISK, Durability.REPLICA])
def test_a_durable_repeat_of_a_finished_task_publishes_nothing(platform: Platform, durability: Durability) -> None:
    platform.chore("done")
    assert platform.work("maintenance") == "done"

    again = platform.tasks.submit("cleanup_old_data_task", {}, options=SubmitOptions(id="done", durability=durability))

    assert again == TaskHandle(task_id="done", state=TaskState.COMPLETED, created=False)
    assert platform.places("maintenance") == {}


def test_a_durable_repeat_of_a_delayed_task_keeps_its_due_time(platform: Platform) -> None:
    platform.chore("later", delay=60)
    (first,) = platform.messages("maintenance", MessageState.SCHEDULED)

    platform.tasks.submit(
        "cleanup_old_data_task", {}, options=SubmitOptions(id="later", delay=60, durability=Durability.DISK)
    )

    (again,) = platform.messages("maintenance", MessageState.SCHEDULED)
    assert again == first


def test_a_durable_repeat_of_a_task_that_waits_for_its_retry_changes_nothing(platform: Platform) -> None:
    platform.chore("flaky")
    assert platform.work("maintenance", Raised(OSError("away")), schedule=(60.0,)) == "flaky"
    assert platform.places("maintenance") == {"flaky": MessageState.SCHEDULED}

    platform.tasks.submit("cleanup_old_data_task", {}, options=SubmitOptions(id="flaky", durability=Durability.DISK))

    assert platform.places("maintenance") == {"flaky": MessageState.SCHEDULED}, "once, and not due yet"
    assert platform.state("flaky") == TaskState.SCHEDULED
