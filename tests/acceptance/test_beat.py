"""Beat: two processes tick once, and one takes over from the other."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import redis
from kombu.entity import Queue

from app.core.celery_app import celery_app
from app.core.queues import QUEUES
from beat_schedule import SCHEDULE
from laneway.platform.db.queries import schedules
from tests.fixtures.server_troubles import TROUBLES, Trouble, full
from tests.fixtures.site import APP, START_SECONDS, Node, Site
from tests.fixtures.waiting import wait_until

Report = Callable[[str, object], None]

TAKE_OVER = 15
LEASE_SECONDS = 10
FAST_APP = "tests.fixtures.fast_beat:celery_app"
TICKS = re.compile(r"Sending due task tick")


def ticks(*beats: Node) -> int:
    """The number of ticks that these Beats sent."""
    return sum(len(TICKS.findall(beat.output())) for beat in beats)


def sent(site: Site) -> list[dict[str, str]]:
    """Take the ticks out of the queue; returns the headers of each message."""
    headers: list[dict[str, str]] = []
    with site.app.connection_for_write() as connection:
        queue = Queue("maintenance")(connection.default_channel)
        while message := queue.get(no_ack=True):
            headers.append(message.headers)
    return headers


def beat(site: Site, name: str) -> Node:
    return site.start(name, "celery", "-A", FAST_APP, "beat", "-l", "INFO")


def test_two_beats_tick_once_and_the_second_takes_over_when_the_first_is_killed(site: Site, figure: Report) -> None:
    first = beat(site, "beat-1")
    wait_until(lambda: ticks(first) >= 1, seconds=START_SECONDS)
    second = beat(site, "beat-2")
    begun, before = time.monotonic(), ticks(first)
    second.wait_for_output("beat: Starting")
    wait_until(lambda: ticks(first) >= before + 4, seconds=START_SECONDS)
    passed, ticked = time.monotonic() - begun, ticks(first) - before
    assert ticks(second) == 0
    assert ticked <= passed + 1
    figure("ticks of a one-second schedule with two Beats", f"{ticked} in {passed:.1f} s")

    first.kill()
    killed = time.monotonic()
    wait_until(lambda: ticks(second) >= 1, seconds=TAKE_OVER + 5)
    figure("Beat killed: first tick of the other after", f"{time.monotonic() - killed:.1f} s")
    assert time.monotonic() - killed < TAKE_OVER

    wait_until(lambda: ticks(second) >= 3, seconds=10)
    messages = sent(site)
    assert len(messages) == len({message["id"] for message in messages})
    assert abs(len(messages) - ticks(first, second)) <= 1
    assert all(message["expires"] for message in messages)
    second.stop()

    third = beat(site, "beat-3")
    stopped = time.monotonic()
    wait_until(lambda: ticks(third) >= 1, seconds=START_SECONDS)
    figure("Beat stopped: first tick of the next after", f"{time.monotonic() - stopped:.1f} s")


def test_every_schedule_names_a_task_and_a_queue_that_exist_and_expires() -> None:
    celery_app.loader.import_default_modules()
    for entry in SCHEDULE:
        assert entry.task in celery_app.tasks
        assert entry.queue in QUEUES
        assert entry.expires > 0


def test_the_schedules_of_the_application_are_those_in_the_database(site: Site) -> None:
    node = site.start("beat", "celery", "-A", APP, "beat")

    def active() -> set[str]:
        with site.services.database.reading() as session:
            return {row.key for row in schedules.active(session)}

    wait_until(lambda: active() == {entry.key for entry in SCHEDULE}, seconds=START_SECONDS)
    assert node.stop() == 0


def test_beat_goes_on_while_the_broker_is_away_and_says_so_once(site: Site, figure: Report) -> None:
    node = beat(site, "beat")
    wait_until(lambda: ticks(node) >= 1, seconds=START_SECONDS)

    site.valkey.kill()
    node.wait_for_output("The broker is away")
    before, away = ticks(node), time.monotonic()
    wait_until(lambda: time.monotonic() > away + LEASE_SECONDS + 1 or node.ended, seconds=LEASE_SECONDS + 20)
    site.valkey.start()
    returned = time.monotonic()
    wait_until(lambda: ticks(node) >= before + 3, seconds=START_SECONDS)
    figure(
        "the broker was away for longer than Beat's lease: first ticks after", f"{time.monotonic() - returned:.1f} s"
    )

    output = node.output()
    assert (output.count("The broker is away"), output.count("The broker is back")) == (1, 1)
    assert "Traceback" not in output
    assert node.stop() == 0


def test_beat_outlives_every_refusal_of_the_server_and_a_server_that_stands_still(site: Site) -> None:
    node = beat(site, "beat")
    wait_until(lambda: ticks(node) >= 1, seconds=START_SECONDS)
    troubles = {"OOM": full, "Timeout": frozen(site)} | TROUBLES
    with redis.Redis(port=site.valkey.port) as admin:
        for sign, trouble in troubles.items():
            times = node.output().count("The broker is away")
            with trouble(admin, site.valkey.folder):
                node.wait_for_output("The broker is away", times=times + 1)
            before = ticks(node)
            wait_until(partial(has_ticked, node, times=before + 2), seconds=START_SECONDS)
            assert not node.ended, f"{sign}: {node.output()}"
    assert "Traceback" not in node.output()
    assert node.stop() == 0


def has_ticked(node: Node, *, times: int) -> bool:
    return ticks(node) >= times or node.ended


def frozen(site: Site) -> Trouble:
    """A server that stands still."""

    @contextmanager
    def freeze(_admin: redis.Redis, _folder: Path) -> Generator[None]:
        with site.valkey.frozen():
            yield

    return freeze
