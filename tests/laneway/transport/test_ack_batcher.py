"""Results are stored before acks: after an outage, a crash or a kill no acked task lacks its result."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
import redis
from celery import Celery

from laneway.engine import Engine, Message, RoundRobin, ServerLost
from laneway.engine.engine import Delivery
from laneway.results.backend import ResultBackend
from laneway.transport import ack_batcher
from laneway.transport.ack_batcher import BATCH_SECONDS, AckBatcher
from laneway.transport.lease_keeper import LeaseKeeper
from tests.fixtures.backend_app import BACKEND, backend_app
from tests.fixtures.ending import end_group
from tests.fixtures.forked import Process, start_process
from tests.fixtures.valkey import RunningValkey, free_port
from tests.fixtures.waiting import wait_until

BROKER, RESULTS = 9, 0
ROOT = Path(__file__).resolve().parents[3]
QUEUE = "celery"
LEASE_MS = 1500


@pytest.fixture(scope="module")
def results_server(valkey: RunningValkey, tmp_path_factory: pytest.TempPathFactory) -> Generator[RunningValkey]:
    """A server for results alone; `valkey` skips the test where no server can run."""
    server = RunningValkey(tmp_path_factory.mktemp("results"), port=free_port())
    server.start()
    yield server
    server.stop()


@pytest.fixture
def app(valkey: RunningValkey, results_server: RunningValkey) -> Generator[Celery]:
    valkey.flush(BROKER)
    results_server.flush(RESULTS)
    app = backend_app(
        valkey.url(BROKER),
        BACKEND + results_server.url(RESULTS),
        on_engine=True,
        result_backend_max_retries=1,
    )
    yield app
    app.backend.result_consumer.stop()
    app.close()


@pytest.fixture
def backend(app: Celery) -> ResultBackend:
    return app.backend


@pytest.fixture
def engine(app: Celery, valkey: RunningValkey) -> Generator[Engine]:
    engine = Engine.from_url(valkey.url(BROKER))
    yield engine
    engine.close()


@pytest.fixture
def lease_keeper(engine: Engine) -> Generator[LeaseKeeper]:
    lease_keeper = LeaseKeeper(engine, lease_ms=LEASE_MS, on_cancelled=lambda _: None)
    user = type("User", (), {})()
    lease_keeper.attach(user)
    yield lease_keeper
    for delivery in [lease.delivery for lease in lease_keeper._held.values()]:  # pyright: ignore[reportPrivateUsage]
        lease_keeper.drop(delivery)
    lease_keeper.detach(user)
    wait_until(lambda: not _threads(), seconds=10)


@pytest.fixture
def start(app: Celery, results_server: RunningValkey, tmp_path: Path) -> Generator[Callable[..., Process]]:
    """Starts workers of the app."""
    environment = os.environ | {
        "BACKEND_TEST_BROKER": str(app.conf.broker_url),
        "BACKEND_TEST_RESULTS": BACKEND + results_server.url(RESULTS),
        "BACKEND_TEST_ENGINE": "1",
    }
    workers: list[Process] = []

    def start_one(pool: str) -> Process:
        argv = ["celery", "-A", "tests.fixtures.backend_app:app", "worker", "--pool", pool]
        argv += ["--concurrency", "2", "--loglevel", "WARNING", "-n", f"w{len(workers)}@test"]
        with (tmp_path / f"{len(workers)}.log").open("wb") as log:
            workers.append(start_process(argv, folder=ROOT, environment=environment, output=log))
        return workers[-1]

    yield start_one
    for worker in workers:
        end_group(worker)


def held(engine: Engine, lease_keeper: LeaseKeeper, n: int, *, key: str | None = None) -> list[Delivery]:
    for number in range(n):
        engine.put(QUEUE, Message(task_id=f"t{number}", name="x", key=key))
    sent_at = time.monotonic()
    deliveries = engine.fetch(RoundRobin({QUEUE: 1}), n, lease_ms=LEASE_MS).deliveries
    for delivery in deliveries:
        lease_keeper.hold(delivery, since=sent_at)
    return deliveries


def stored(server: RunningValkey) -> int:
    with redis.Redis.from_url(server.url(RESULTS)) as client:
        return int(client.dbsize())


def leased(engine: Engine) -> int:
    return engine.stats([QUEUE])[0].leased


def _threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "laneway-acks"]


def test_results_and_acks_are_sent_together_within_milliseconds(
    engine: Engine, lease_keeper: LeaseKeeper, backend: ResultBackend, results_server: RunningValkey
) -> None:
    deliveries = held(engine, lease_keeper, 20)
    for delivery in deliveries[:19]:
        backend.store_result(delivery.id, 1, "SUCCESS")
        lease_keeper.ack(delivery)
    sent_at = time.monotonic()
    wait_until(lambda: leased(engine) == 1, seconds=5)
    assert time.monotonic() - sent_at < 200 * BATCH_SECONDS
    assert stored(results_server) == 19


def test_an_ack_after_a_pause_is_sent_at_once_and_those_right_after_it_wait_and_go_together(
    engine: Engine, lease_keeper: LeaseKeeper, backend: ResultBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ack_batcher, "BATCH_SECONDS", 4.0)
    first, *others, _ = held(engine, lease_keeper, 5)
    began = time.monotonic()
    backend.store_result(first.id, 1, "SUCCESS")
    lease_keeper.ack(first)
    wait_until(lambda: leased(engine) == 4, seconds=3)  # not after the 4 s
    for delivery in others:
        backend.store_result(delivery.id, 1, "SUCCESS")
        lease_keeper.ack(delivery)

    left = wait_until(lambda: {leased(engine)} - {4}, seconds=10)
    assert (left, time.monotonic() - began > 3.9) == ({1}, True)


def test_the_ack_of_the_last_held_message_is_sent_at_once(
    engine: Engine, lease_keeper: LeaseKeeper, backend: ResultBackend, results_server: RunningValkey
) -> None:
    for delivery in held(engine, lease_keeper, 3):
        backend.store_result(delivery.id, 1, "SUCCESS")
        lease_keeper.ack(delivery)
    assert (leased(engine), stored(results_server)) == (0, 3)


def test_an_ack_that_frees_an_ordering_key_is_sent_at_once_with_the_results(
    engine: Engine, lease_keeper: LeaseKeeper, backend: ResultBackend, results_server: RunningValkey
) -> None:
    held(engine, lease_keeper, 1)
    (delivery,) = held(engine, lease_keeper, 1, key="k")[:1]
    backend.store_result("t", 1, "SUCCESS")
    lease_keeper.ack(delivery)
    assert (leased(engine), stored(results_server)) == (1, 1)


def test_no_ack_is_sent_and_leases_are_renewed_while_results_cannot_be_stored(
    engine: Engine, lease_keeper: LeaseKeeper, backend: ResultBackend, results_server: RunningValkey
) -> None:
    deliveries = held(engine, lease_keeper, 3)
    results_server.stop()
    try:
        for delivery in deliveries[:2]:
            backend.store_result(delivery.id, 1, "SUCCESS")
            lease_keeper.ack(delivery)
        lease_keeper.flush()
        away_until = time.monotonic() + 1.5 * LEASE_MS / 1000
        wait_until(lambda: time.monotonic() > away_until, seconds=10)
        assert leased(engine) == 3, "neither acked nor lost"
        assert not engine.fetch(RoundRobin({QUEUE: 1}), 10).deliveries
    finally:
        results_server.start()
    wait_until(lambda: leased(engine) == 1, seconds=10)
    assert stored(results_server) == 2
    lease_keeper.ack(deliveries[2])


def test_an_ack_that_the_broker_did_not_get_is_sent_when_the_broker_is_back(
    engine: Engine, lease_keeper: LeaseKeeper, valkey: RunningValkey
) -> None:
    (delivery,) = held(engine, lease_keeper, 1)
    valkey.stop()
    try:
        with pytest.raises(ServerLost):
            lease_keeper.ack(delivery)
    finally:
        valkey.start()
    wait_until(lambda: not len(lease_keeper._ack_batcher), seconds=10)  # pyright: ignore[reportPrivateUsage]


def test_an_ack_waits_for_results_that_another_thread_is_sending(
    engine: Engine, lease_keeper: LeaseKeeper, backend: ResultBackend, results_server: RunningValkey
) -> None:
    first, _ = held(engine, lease_keeper, 2)
    pid = results_server_pid(results_server)
    os.kill(pid, signal.SIGSTOP)  # before there is a result: it goes out after 5 ms
    try:
        backend.store_result(first.id, 1, "SUCCESS")
        sender = threading.Thread(target=backend.results.flush)
        sender.start()
        wait_until(lambda: not backend.results._buffer, seconds=5)  # pyright: ignore[reportPrivateUsage]
        acker = threading.Thread(target=lambda: (lease_keeper.ack(first), lease_keeper.flush()))
        acker.start()
        acker.join(0.5)
        assert leased(engine) == 2
    finally:
        os.kill(pid, signal.SIGCONT)
    sender.join(5)
    acker.join(5)
    wait_until(lambda: leased(engine) == 1, seconds=5)
    assert stored(results_server) == 1


def results_server_pid(server: RunningValkey) -> int:
    with redis.Redis.from_url(server.url(RESULTS)) as client:
        return int(client.info("server")["process_id"])


def test_an_ack_after_the_thread_has_ended_is_sent_too(
    engine: Engine, lease_keeper: LeaseKeeper, backend: ResultBackend
) -> None:
    deliveries = held(engine, lease_keeper, 2)
    batcher = AckBatcher(engine, is_idle=lambda: False)
    batcher.start()
    batcher.stop()
    backend.store_result("t", 1, "SUCCESS")
    batcher.add(deliveries[0])
    wait_until(lambda: leased(engine) == 1, seconds=5)
    batcher.stop()
    lease_keeper.ack(deliveries[1])


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_every_task_that_a_killed_worker_acked_has_its_result(
    app: Celery, engine: Engine, start: Callable[..., Process], results_server: RunningValkey, pool: str
) -> None:
    jobs = 600
    ids = [app.tasks["backend.add"].delay(1, 2).id for _ in range(jobs)]
    for share in (0.2, 0.5):
        worker = start(pool)
        wait_until(lambda share=share: stored(results_server) > share * jobs, seconds=60)
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()
        found = engine.find_many(QUEUE, ids)
        acked = [id for id, one in zip(ids, found, strict=True) if one is None]
        assert acked
        assert not [id for id in acked if app.backend.get(app.backend.get_key_for_task(id)) is None]
    assert len([one for one in engine.find_many(QUEUE, ids) if one is not None]) < jobs


def test_a_prefork_worker_goes_on_when_the_results_server_was_away(
    app: Celery, engine: Engine, start: Callable[..., Process], results_server: RunningValkey
) -> None:
    start("prefork")
    assert app.tasks["backend.add"].delay(1, 2).get(timeout=30) == 3
    results_server.stop()
    try:
        ids = [app.tasks["backend.add"].delay(1, number).id for number in range(20)]
        wait_until(lambda: engine.stats([QUEUE])[0].ready == 0, seconds=30)
        assert leased(engine) == 20
    finally:
        results_server.start()
    wait_until(lambda: leased(engine) == 0, seconds=30)
    assert [app.AsyncResult(id).get(timeout=10) for id in ids] == [1 + number for number in range(20)]
