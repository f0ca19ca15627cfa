"""A process killed at any point between a transaction and its messages loses nothing and repeats nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from sqlalchemy import select

from app.core.settings import ROOT
from app.db.models import Conversation
from tests.fixtures.platform import MovableClock, Platform, setting_names
from tests.fixtures.submitting import GAPS


def submitter_environment(platform: Platform) -> dict[str, str]:
    """The environment of a submitter process on the servers of this test."""
    redis = platform.settings.redis
    known = {name.upper() for name in setting_names()}
    return {name: value for name, value in os.environ.items() if name.upper() not in known} | {
        "CELERY_BROKER_URL": redis.broker_url,
        "CELERY_RESULT_BACKEND": redis.result_url,
        "DATABASE_URL": platform.database.url.render_as_string(hide_password=False),
    }


def killed_in(gap: str, platform: Platform) -> None:
    """Run a submitter process that dies in this gap."""
    argv = [sys.executable, "-m", "tests.fixtures.submitting", gap]
    environment = submitter_environment(platform)
    ran = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert ran.returncode == -signal.SIGKILL, ran.stderr


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
