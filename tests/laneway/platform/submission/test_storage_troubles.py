"""With TASK_ENCRYPTION=all and a storage: what refuses a submission leaves no object, and no fault loses a payload."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from laneway.platform.access.caller import Caller, acting_as
from laneway.platform.access.quota_errors import OverQuota, QuotaExceeded
from laneway.platform.errors import BrokerUnavailable, Conflict, PlatformError, QueueFull
from laneway.platform.object_store import StorageUnavailable
from laneway.platform.registry import registry
from laneway.platform.submission.acceptance import SubmitOptions
from laneway.platform.submission.transaction import Submission
from laneway.schemas.task import TaskState
from tests.fixtures.waiting import wait_until
from tests.laneway.platform.submission.test_stored_payloads import LARGE, TASK, MakeStored, Stored, make_stored

__all__ = ["make_stored"]

pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")  # Celery's result backend

PAYLOAD = {"before": {"characters": len(LARGE), "text": LARGE}}


@pytest.fixture
def stored(make_stored: MakeStored) -> Iterator[Stored]:
    quotas = {"token:small": {"bytes": 9000}, "token:tiny": {"bytes": 100}}
    with make_stored(TASK_ENCRYPTION="all", MAX_QUEUE_SIZE="2", QUOTAS=json.dumps(quotas)) as stored:
        yield stored


def submit_in_a_session(stored: Stored, id: str) -> None:
    with Session(stored.platform.database.engine) as session:
        stored.services.tasks.submit_in(session, [Submission(registry[TASK], PAYLOAD, SubmitOptions(id=id))])
        session.commit()


def submit_in_a_batch(stored: Stored, id: str) -> None:
    stored.services.tasks.submit_many([Submission(registry[TASK], PAYLOAD, SubmitOptions(id=id))])


def submit_alone(stored: Stored, id: str) -> None:
    stored.services.tasks.submit(TASK, PAYLOAD, id=id)


WAYS = pytest.mark.parametrize("submit", [submit_alone, submit_in_a_batch, submit_in_a_session])


@WAYS
def test_a_full_queue_leaves_no_object_and_no_row(stored: Stored, submit: type) -> None:
    ids = [stored.submit(), stored.submit()]

    with pytest.raises(QueueFull):
        submit(stored, "too-many")

    assert (len(stored.files()), {row.id for row in stored.platform.rows()}) == (2, set(ids))
    stored.run()
    submit(stored, "too-many")
    stored.run()
    assert stored.platform.row("too-many").state == TaskState.COMPLETED


@WAYS
@pytest.mark.parametrize(("token", "error"), [("tiny", OverQuota), ("small", QuotaExceeded)])
def test_a_quota_of_bytes_counts_the_payload_and_not_its_reference(
    stored: Stored, submit: type, token: str, error: type[PlatformError]
) -> None:
    caller = Caller(kind="token", name=token, scopes=frozenset(), request_id="r")
    with acting_as(caller):
        if error is QuotaExceeded:
            submit(stored, "first")
        with pytest.raises(error):
            submit(stored, "second")
    assert len(stored.files()) == len(stored.platform.rows()) == (1 if error is QuotaExceeded else 0)


def test_a_repeat_and_a_conflict_leave_no_second_object(stored: Stored) -> None:
    stored.submit(id="one")
    stored.submit(id="one")
    with pytest.raises(Conflict):
        stored.submit(LARGE + "other", id="one")
    assert len(stored.files()) == 1


def test_a_task_that_a_frozen_broker_did_not_take_is_sent_later_with_its_payload(stored: Stored) -> None:
    with stored.platform.valkey.frozen():
        id = stored.submit()
        assert stored.platform.row(id).state == TaskState.ACCEPTED
        assert len(stored.files()) == 1

    def is_sent() -> bool:
        with suppress(BrokerUnavailable):  # for a moment after it did not answer
            stored.platform.tasks.outbox.relay()
        return stored.platform.row(id).state == TaskState.PENDING

    wait_until(is_sent, seconds=20)
    stored.run()
    assert stored.platform.tasks.status(id).result == {"characters": len(LARGE)}


@pytest.fixture
def full(stored: Stored) -> Iterator[Path]:
    """The folder of the storage is a file system of its own, which is full but for a few bytes."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", stored.folder]
    mounted = subprocess.run(mount, capture_output=True, check=False)
    if mounted.returncode:
        if os.environ.get("CI"):
            pytest.fail(f"a small file system cannot be mounted: {mounted.stderr!r}")
        pytest.skip("only root may mount a small file system")
    try:
        filled = stored.folder / "filled"
        filled.write_bytes(bytes(os.statvfs(stored.folder).f_bavail * os.statvfs(stored.folder).f_bsize - 4096))
        yield stored.folder
    finally:
        subprocess.run(["umount", stored.folder], check=True)


@WAYS
def test_a_full_disk_refuses_with_503_and_leaves_nothing_half_written(stored: Stored, full: Path, submit: type) -> None:
    with pytest.raises(StorageUnavailable, match="No space left on device") as refused:
        submit(stored, "no-room")

    assert (refused.value.status, refused.value.retry_after > 0) == (503, True)
    assert [file.name for file in stored.files()] == ["filled"]
    assert not stored.platform.rows()
    (full / "filled").unlink()
    submit(stored, "no-room")
    stored.run()
    assert stored.platform.row("no-room").state == TaskState.COMPLETED
