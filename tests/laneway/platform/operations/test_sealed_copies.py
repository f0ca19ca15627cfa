"""Large payloads in the storage and Celery's results are encrypted again with the current key, also after a crash."""

from __future__ import annotations

from typing import Any

import pytest
from celery import chord

from laneway.platform.object_store import FolderStore, StorageUnavailable
from laneway.platform.operations import sealed_copies
from laneway.platform.operations.reencryption import Amounts
from laneway.platform.payload_store import is_stored
from laneway.platform.sealing import form_of, opened
from laneway.schemas.task import TaskState
from tests.laneway.platform.execution.test_encrypted_tasks import QUEUE
from tests.laneway.platform.submission.test_stored_payloads import LARGE, Stored, make_stored, stored

__all__ = ["make_stored", "stored"]

pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")  # Celery's result backend

SEALED = "sealed_note"


def keys_in(stored: Stored, key: str) -> int:
    """How many objects are encrypted with this key."""
    return sum(form_of(key).replace(" ", "") in file.read_text().replace(" ", "") for file in stored.files())


def test_large_payloads_of_tasks_that_are_over_get_the_new_key_and_those_with_a_message_keep_theirs(
    stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealed_copies, "PAGE", 2)
    done = [stored.submit(task=SEALED) for _ in range(3)]
    stored.run()
    waiting = stored.submit(task=SEALED)
    plain = stored.submit()
    older = stored.rotate(monkeypatch)
    work, seen = stored.reencryption(), list[Amounts]()

    assert work.uses(older).payloads == 4
    assert work.run(seen.append).payloads == 3
    assert len(seen) > 4
    assert (work.uses(older).payloads, keys_in(stored, older), len(stored.files())) == (1, 1, 5)
    assert work.run().payloads == 0

    stored.run()
    assert {stored.platform.row(id).state for id in (*done, waiting, plain)} == {TaskState.COMPLETED}
    assert work.run().payloads == 1
    assert (keys_in(stored, older), len(stored.files())) == (0, 5)
    assert work.uses(older) == Amounts()
    for id in (*done, waiting):
        assert is_stored(stored.platform.row(id).payload)
        assert stored.platform.tasks.status(id).payload["text"] == LARGE
    stored.platform.tasks.retry(done[0])
    stored.run()
    assert stored.platform.row(done[0]).state == TaskState.COMPLETED


def test_a_payload_of_a_task_that_is_retried_meanwhile_stays(stored: Stored, monkeypatch: pytest.MonkeyPatch) -> None:
    id = stored.submit(task=SEALED)
    stored.run()
    older = stored.rotate(monkeypatch)
    write = FolderStore.write

    def write_and_retry(store: FolderStore, name: str, content: bytes) -> None:
        write(store, name, content)
        stored.platform.tasks.retry(id)

    with monkeypatch.context() as patch:
        patch.setattr(FolderStore, "write", write_and_retry)
        assert stored.reencryption().run().payloads == 0

    assert (keys_in(stored, older), len(stored.files())) == (1, 1), "the object that was written is deleted"
    stored.run()
    assert stored.platform.row(id).state == TaskState.COMPLETED


@pytest.mark.parametrize("step", ["write", "delete"])
def test_a_crash_in_the_middle_leaves_every_payload_readable(
    stored: Stored, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    ids = [stored.submit(task=SEALED) for _ in range(2)]
    stored.run()
    older = stored.rotate(monkeypatch)

    class Killed(BaseException):
        """The process ends here."""

    real: Any = getattr(FolderStore, step)

    def end(*arguments: Any) -> None:
        if step == "write":
            real(*arguments)
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(FolderStore, step, end)
        stored.reencryption().run()

    assert [stored.platform.tasks.status(id).payload["text"] for id in ids] == [LARGE] * 2
    assert stored.reencryption().run().payloads == (2 if step == "write" else 1)
    assert stored.reencryption().uses(older) == Amounts()
    assert [stored.platform.tasks.status(id).payload["text"] for id in ids] == [LARGE] * 2


def test_results_get_the_new_key_and_expire_when_they_would_have(
    stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    id, plain = stored.submit(task=SEALED), stored.submit()
    stored.run()
    older = stored.rotate(monkeypatch)
    client, work = stored.platform.app.backend.client, stored.reencryption()
    key = stored.platform.app.backend.get_key_for_task(id)
    before, others = client.get(key), client.get(stored.platform.app.backend.get_key_for_task(plain))
    client.expire(key, 1000)

    assert work.uses(older).results == 1
    assert work.run().results == 1

    assert form_of(older).encode() not in client.get(key)
    assert 900 < client.ttl(key) <= 1000
    assert len(client.get(key)) == len(before)
    assert client.get(stored.platform.app.backend.get_key_for_task(plain)) == others
    assert opened(stored.platform.app.AsyncResult(id).result) == {"answer": LARGE, "characters": len(LARGE)}
    assert work.run().results == work.uses(older).results == 0


def test_a_result_that_changes_meanwhile_stays_as_it_was_written(
    stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = stored.submit(task=SEALED)
    stored.run()
    older, backend = stored.rotate(monkeypatch), stored.platform.app.backend
    contents = stored.services.results

    def change(meta: Any) -> Any:
        backend.client.set(backend.get_key_for_task(id), b"newer")
        return meta

    assert contents.rewrite([id], change) == 0
    assert backend.client.get(backend.get_key_for_task(id)) == b"newer"
    assert stored.reencryption().uses(older).results == 0


def test_parts_of_a_chord_count_until_its_body_has_them(stored: Stored, monkeypatch: pytest.MonkeyPatch) -> None:
    note, count = (stored.platform.app.tasks[name] for name in (SEALED, "plain_count"))
    sent = chord([note.s(text="a"), note.s(text="b").set(countdown=1)])(count.s())
    stored.run()
    older = stored.rotate(monkeypatch)
    assert stored.reencryption().uses(older).results == 2, "the result, and the part of the chord"
    assert stored.reencryption().run().results == 1
    assert stored.reencryption().uses(older).results == 1
    assert not sent.ready()


def test_without_the_storage_it_is_not_known_what_a_key_encrypts(
    stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored.submit(task=SEALED)
    older = stored.rotate(monkeypatch)
    monkeypatch.setattr(stored.platform.settings.tasks.payload_store, "url", None)

    with pytest.raises(StorageUnavailable, match="PAYLOAD_STORAGE is not set"):
        stored.reencryption().uses(older)
    assert stored.platform.places(QUEUE)
