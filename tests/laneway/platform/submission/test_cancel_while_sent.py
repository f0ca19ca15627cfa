"""A task that is cancelled while its sender has not put its message yet never runs, whatever becomes of the sender."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence

import pytest

from laneway.platform.broker import Broker
from laneway.platform.db.models import TaskRun
from laneway.platform.errors import BrokerUnavailable
from laneway.schemas.task import TaskState
from tests.fixtures.platform import MovableClock, Platform
from tests.fixtures.submitting import STOPPED
from tests.laneway.platform.submission.test_outbox import Refusals, say
from tests.laneway.platform.submission.test_outbox_kill import start_submitter


def cancelled_before_put(platform: Platform, monkeypatch: pytest.MonkeyPatch, *then: Callable[[str], object]) -> None:
    """Cancel each task after its row is committed and before its message is put; do `then` in between."""
    publish = Broker.publish_many

    def cancel_then_publish(broker: Broker, runs: Sequence[TaskRun]) -> Refusals:
        monkeypatch.setattr(Broker, "publish_many", publish)
        for run in runs:
            assert platform.tasks.cancel(run.id).cancelled
            for act in then:
                act(run.id)
        return publish(broker, runs)

    monkeypatch.setattr(Broker, "publish_many", cancel_then_publish)


def test_an_accepted_task_that_is_cancelled_does_not_run_when_its_sender_dies(platform: Platform) -> None:
    sender = start_submitter(platform, STOPPED)
    try:
        _, status = os.waitpid(sender, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        assert platform.state("m-1") == TaskState.ACCEPTED

        assert platform.tasks.cancel("m-1").cancelled
    finally:
        os.kill(sender, signal.SIGCONT)
        _, status = os.waitpid(sender, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL

    assert platform.work() is None
    assert platform.state("m-1") == TaskState.CANCELLED
    assert platform.places() == {}


def test_a_submission_that_is_cancelled_before_its_message_is_put_does_not_run(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancelled_before_put(platform, monkeypatch)

    platform.tasks.submit("process_conversation_message_task", say("1"), id="m-1")

    assert platform.work() is None
    assert platform.state("m-1") == TaskState.CANCELLED


@pytest.mark.parametrize("again", ["retried by hand", "deleted and submitted anew"])
def test_a_cancelled_task_can_be_sent_again_while_its_first_sender_is_under_way(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, again: str
) -> None:
    worked = list[str | None]()

    def send_again(id: str) -> None:
        if again == "retried by hand":
            platform.tasks.retry(id)
        else:
            platform.tasks.delete(id)
            platform.message(id=id)
        worked.append(platform.work())

    cancelled_before_put(platform, monkeypatch, send_again)

    platform.message(id="m-1")

    assert [*worked, platform.work()] == ["m-1", None]
    assert platform.state("m-1") == TaskState.COMPLETED


def test_a_relay_that_dies_sends_no_task_that_was_cancelled_after_its_claim(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform.valkey.stop()
    ids = [platform.chore(), platform.chore()]
    platform.valkey.start()
    publish = Broker.publish_many

    def cancel_one_publish_and_die(broker: Broker, runs: Sequence[TaskRun]) -> Refusals:
        assert platform.tasks.cancel(ids[0]).cancelled
        publish(broker, runs)
        raise KeyboardInterrupt

    monkeypatch.setattr(Broker, "publish_many", cancel_one_publish_and_die)
    with pytest.raises(KeyboardInterrupt):
        platform.tasks.outbox.relay()

    assert platform.sent("maintenance") == ids[1:]


def test_a_task_that_no_sender_has_claimed_is_cancelled_without_the_broker(
    platform: Platform, movable_clock: MovableClock
) -> None:
    platform.valkey.stop()
    id = platform.chore()
    movable_clock.forward(9)

    with pytest.raises(BrokerUnavailable):
        platform.broker.stats(["maintenance"])
    assert platform.tasks.cancel(id).cancelled

    platform.valkey.start()
    assert platform.tasks.outbox.relay() == 0
