"""A process killed at any point between a transaction and its messages loses nothing and repeats nothing."""

from __future__ import annotations

import os
import signal

import pytest
from sqlalchemy import select

from app.db.models import Conversation
from tests.fixtures.forking import start_child
from tests.fixtures.platform import MovableClock, Platform, setting_names
from tests.fixtures.submitting import GAPS, submit


def start_submitter(platform: Platform, gap: str) -> int:
    """Fork a submitter on the servers of this test, which dies in this gap; return its process id."""
    known = {name.upper() for name in setting_names()}
    redis = platform.settings.redis

    def submit_and_die() -> None:
        for name in [name for name in os.environ if name.upper() in known]:
            del os.environ[name]
        os.environ["CELERY_BROKER_URL"] = redis.broker_url
        os.environ["CELERY_RESULT_BACKEND"] = redis.result_url
        os.environ["DATABASE_URL"] = platform.database.url.render_as_string(hide_password=False)
        submit(gap)

    return start_child(submit_and_die)


def killed_in(gap: str, platform: Platform) -> None:
    """Run a submitter process that dies in this gap."""
    _, status = os.waitpid(start_submitter(platform, gap), 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL


@pytest.mark.parametrize("gap", GAPS)
def test_a_killed_sender_loses_nothing_and_repeats_nothing(
    platform: Platform, movable_clock: MovableClock, gap: str
) -> None:
    by_relay = "relay" in gap
    if by_relay:
        platform.valkey.stop()
        platform.message(id="m-1")
        platform.valkey.start()

    killed_in(gap, platform)
    worked = [platform.work()]  # a worker may be faster than the relay
    platform.message(id="m-2")
    movable_clock.forward(9)
    platform.tasks.outbox.relay()
    platform.tasks.outbox.relay()
    worked += [platform.work() for _ in range(3)]

    expected = ["m-2"] if gap == "before the commit" else ["m-1", "m-2"]
    assert [id for id in worked if id] == expected
    with platform.database.reading() as session:
        opened = session.scalars(select(Conversation.id)).all()
    assert list(opened) == ([] if by_relay or gap == "before the commit" else ["c-1"])
    assert len(platform.rows()) == len(expected)
