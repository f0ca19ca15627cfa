"""The result backend with real workers: canvas and states, in pools of processes and of threads."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, chain, chord, group
from celery.exceptions import ChordError
from kombu import pools
from kombu.exceptions import EncodeError

from tests.fixtures.backend_app import BACKEND, Refused, backend_app
from tests.fixtures.ending import end_group
from tests.fixtures.forked import start_process
from tests.fixtures.valkey import RunningValkey
from tests.fixtures.waiting import wait_until

BROKER, RESULTS = 7, 8
ROOT = Path(__file__).resolve().parents[3]
SECONDS = 30
WORKERS = {
    "kombu-prefork": (False, "prefork", 2),
    "kombu-threads": (False, "threads", 4),
    "engine-prefork": (True, "prefork", 2),
    "engine-solo": (True, "solo", 1),
}


@pytest.fixture(scope="module", params=WORKERS)
def app(
    request: pytest.FixtureRequest, valkey: RunningValkey, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Celery]:
    """An app with a worker."""
    on_engine, pool, concurrency = WORKERS[request.param]
    valkey.flush(BROKER, RESULTS)
    broker, results = valkey.url(BROKER), BACKEND + valkey.url(RESULTS)
    app = backend_app(broker, results, on_engine=on_engine)
    environment = {
        "BACKEND_TEST_BROKER": broker,
        "BACKEND_TEST_RESULTS": results,
        "BACKEND_TEST_ENGINE": "1" if on_engine else "",
    }
    argv = ["celery", "-A", "tests.fixtures.backend_app:app", "worker", "--pool", pool]
    argv += ["--concurrency", str(concurrency), "--loglevel", "WARNING"]
    log = tmp_path_factory.mktemp("worker") / "worker.log"
    with log.open("wb") as output:
        worker = start_process(argv, folder=ROOT, environment=os.environ | environment, output=output)
    try:
        wait_until(lambda: app.control.ping(timeout=1, limit=1), seconds=60)
        yield app
    finally:
        try:
            worker.send_signal(signal.SIGTERM)
            worker.wait(60)
        finally:
            end_group(worker)
        app.backend.result_consumer.stop()
        app.close()
        pools.reset()  # an open connection to the engine would let this process buffer results


def task(app: Celery, name: str) -> Any:
    return app.tasks[f"backend.{name}"]


def test_a_result_comes_back(app: Celery) -> None:
    assert task(app, "add").delay(1, 2).get(timeout=SECONDS) == 3


def test_a_chain_passes_results_on(app: Celery) -> None:
    add = task(app, "add")
    result = chain(add.s(1, 1), add.s(2), add.s(3)).apply_async()
    assert result.get(timeout=SECONDS) == 7
    assert result.parent.parent.get(timeout=SECONDS) == 2


def test_a_group_returns_its_results_in_order(app: Celery) -> None:
    add = task(app, "add")
    result = group(add.s(n, n) for n in range(300)).apply_async()
    assert result.get(timeout=2 * SECONDS) == [2 * n for n in range(300)]
    assert result.successful()


def test_a_chord_runs_its_body_once_with_all_results(app: Celery) -> None:
    add, total = task(app, "add"), task(app, "total")
    assert chord((add.s(n, 1) for n in range(50)), total.s()).apply_async().get(timeout=SECONDS) == sum(range(1, 51))


def test_chords_in_chords(app: Celery) -> None:
    add, total = task(app, "add"), task(app, "total")
    inner = [chord([add.s(n, 1), add.s(n, 2)], total.s()) for n in range(4)]
    assert chord(inner, total.s()).apply_async().get(timeout=SECONDS) == sum(2 * n + 3 for n in range(4))


def test_groups_in_a_chord_keep_their_shape(app: Celery) -> None:
    add, total = task(app, "add"), task(app, "total")
    work = chain(group(group(add.s(1, 1), add.s(2, 2)), add.s(3, 3)), total.s())
    assert work.apply_async().get(timeout=SECONDS) == 12


def test_a_failed_part_fails_the_chord(app: Celery) -> None:
    add, total, fail = task(app, "add"), task(app, "total"), task(app, "fail")
    result = chord([add.s(1, 1), fail.s(), add.s(2, 2)], total.s()).apply_async()
    with pytest.raises(ChordError, match="Refused"):
        result.get(timeout=SECONDS, follow_parents=False)
    assert result.parent.results[0].get(timeout=SECONDS) == 2


def test_a_failed_link_fails_the_rest_of_its_chain(app: Celery) -> None:
    result = chain(task(app, "add").s(1, 1), task(app, "fail").s(), task(app, "total").s()).apply_async()
    with pytest.raises(Refused):
        result.get(timeout=SECONDS)


def test_an_exception_and_its_traceback_come_back(app: Celery) -> None:
    result = task(app, "fail").delay()
    with pytest.raises(Refused) as raised:
        result.get(timeout=SECONDS)
    assert raised.value.args == ("as asked", 7)
    assert "raise Refused" in result.traceback
    assert result.state == "FAILURE"


def test_a_result_that_is_no_json_fails_the_task(app: Celery) -> None:
    result = task(app, "unserializable").delay()
    with pytest.raises(EncodeError):
        result.get(timeout=SECONDS)


def test_a_retried_task_ends_with_success(app: Celery) -> None:
    seen: list[str] = []
    result = task(app, "retry_once").delay()
    assert result.get(timeout=SECONDS, on_message=lambda meta: seen.append(meta["status"])) == 1
    assert seen[-1] == "SUCCESS"


def test_a_task_that_is_tracked_shows_that_it_started(app: Celery) -> None:
    assert task(app, "started").delay().get(timeout=SECONDS) == "STARTED"


def test_an_ignored_result_is_not_stored(app: Celery) -> None:
    quiet = task(app, "quiet").delay()
    assert quiet.get(timeout=SECONDS) is None
    assert task(app, "add").apply_async((1, 2), ignore_result=True).get(timeout=SECONDS) is None
    assert task(app, "add").delay(1, 2).get(timeout=SECONDS) == 3
    assert app.backend.get_state(quiet.id) == "PENDING"


def test_the_children_of_a_task_are_known(app: Celery) -> None:
    result = task(app, "trailing").delay()
    child = result.get(timeout=SECONDS)
    assert [node.id for node in result.children] == [child]
    assert result.children[0].get(timeout=SECONDS) == 3


def test_a_revoked_task_has_the_state_revoked(app: Celery) -> None:
    result = task(app, "add").apply_async((1, 2), countdown=3)
    result.revoke()
    wait_until(lambda: result.state == "REVOKED", seconds=SECONDS)
