"""A broker that refuses commands: submissions are kept and sent later, and the error says why."""

from __future__ import annotations

import pytest
import redis

from laneway.engine import MessageState
from laneway.platform.errors import BrokerLoginRefused, BrokerRefuses, BrokerUnavailable
from laneway.platform.submission.acceptance import SubmitOptions
from laneway.platform.submission.admission import BrokerMemory
from laneway.schemas.task import TaskState
from tests.fixtures.platform import Platform
from tests.fixtures.server_troubles import Trouble, busy, full, no_replicas, password, replica

TASK = "process_conversation_message_task"


@pytest.mark.parametrize(
    ("trouble", "error", "sign"),
    [
        (no_replicas, BrokerRefuses, "takes no commands now: NOREPLICAS"),
        (replica, BrokerRefuses, "takes no commands now: READONLY"),
        (busy, BrokerRefuses, "takes no commands now: BUSY"),
        (full, BrokerRefuses, "takes no commands now: OOM"),
        (password, BrokerLoginRefused, "refuses the login: .*REDIS_URL"),
    ],
)
def test_a_submission_is_kept_and_sent_when_the_broker_takes_commands_again(
    trouble: Trouble,
    error: type[BrokerUnavailable],
    sign: str,
    platform: Platform,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(BrokerMemory, "take", lambda *_: None)  # it fills up after it was asked for its memory
    platform.broker.prepare()
    payload = {"conversation_id": "c-1", "message": "Hello"}
    with redis.Redis(port=platform.valkey.port) as admin, trouble(admin, platform.valkey.folder):
        handle = platform.tasks.submit(TASK, payload)
        with pytest.raises(error, match=sign):
            platform.tasks.submit(TASK, payload | {"conversation_id": "c-2"}, options=SubmitOptions(unique="u"))
    assert handle.state is TaskState.ACCEPTED

    platform.tasks.outbox.relay()

    assert platform.places() == {handle.task_id: MessageState.READY}
    assert platform.tasks.status(handle.task_id).status is TaskState.PENDING
