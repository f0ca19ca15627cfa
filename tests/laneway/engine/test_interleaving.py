"""Many threads and processes on one queue, and meetings that would go wrong if a script were not atomic."""

from __future__ import annotations

import multiprocessing
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from laneway.engine import Engine, LeaseStatus, Limits, Message, MessageState, RoundRobin, UnknownMessage
from tests.fixtures.waiting import wait_until

QUEUE = "work"
WEIGHTS = {QUEUE: 1}


def message(number: int, *, key: str | None = None) -> Message:
    return Message(task_id=f"task-{number}", name="app.work", body=str(number).encode(), key=key)


def drain(engine: Engine, batch: int, fetched_ids: list[str], *, until: Callable[[], bool]) -> None:
    """Fetch and ack messages until the queue is empty and `until` is true."""
    round_robin = RoundRobin(WEIGHTS)
    while True:
        deliveries = engine.fetch(round_robin, batch).deliveries
        assert set(engine.ack(deliveries)) <= {LeaseStatus.DONE}
        fetched_ids += [delivery.id for delivery in deliveries]
        if not deliveries and until():
            return


def drain_in_process(url: str, results: multiprocessing.Queue[list[str]]) -> None:
    engine, fetched_ids = Engine.from_url(url), list[str]()
    drain(engine, 7, fetched_ids, until=lambda: engine.stats([QUEUE])[0].waiting == 0)
    results.put(fetched_ids)
    engine.close()


def test_threads_and_processes_on_one_queue_get_every_message_once(engine: Engine, engine_url: str) -> None:
    processes, threads, each = 2, 4, 300
    context = multiprocessing.get_context("spawn")
    results: multiprocessing.Queue[list[str]] = context.Queue()
    children = [context.Process(target=drain_in_process, args=(engine_url, results)) for _ in range(processes)]

    def produce(start: int) -> None:
        for number in range(start, start + each):
            engine.put(QUEUE, message(number))

    for number in range(threads * each, threads * each + 500):
        engine.put(QUEUE, message(number))
    for child in children:
        child.start()
    by_thread: list[list[str]] = [[] for _ in range(threads)]
    with ThreadPoolExecutor(threads * 2) as pool:
        producers = [pool.submit(produce, start * each) for start in range(threads)]
        consumers = [
            pool.submit(drain, engine, 5, ids, until=lambda: all(producer.done() for producer in producers))
            for ids in by_thread
        ]
        for future in producers + consumers:
            future.result(60)
    fetched_ids = [id for ids in by_thread for id in ids]
    fetched_ids += [id for _ in children for id in results.get(timeout=60)]
    for child in children:
        child.join(30)

    assert Counter(fetched_ids) == Counter(f"task-{number}" for number in range(threads * each + 500))


def test_messages_of_one_key_never_overlap_and_keep_their_order_across_threads(engine: Engine) -> None:
    engine.put_many(QUEUE, [message(number, key=f"key-{number % 5}") for number in range(400)])
    running: Counter[str] = Counter()
    order: dict[str, list[int]] = {}
    overlaps: list[str] = []
    lock = threading.Lock()

    def consume() -> None:
        round_robin = RoundRobin(WEIGHTS)
        while engine.stats([QUEUE])[0].waiting:
            for delivery in engine.fetch(round_robin, 3).deliveries:
                stored = delivery.stored.message
                assert stored.key
                with lock:
                    running[stored.key] += 1
                    if running[stored.key] > 1:
                        overlaps.append(stored.key)
                    order.setdefault(stored.key, []).append(int(stored.body))
                with lock:
                    running[stored.key] -= 1
                assert engine.ack([delivery]) == [LeaseStatus.DONE]

    with ThreadPoolExecutor(6) as pool:
        for future in [pool.submit(consume) for _ in range(6)]:
            future.result(60)

    assert not overlaps
    assert order == {f"key-{k}": list(range(k, 400, 5)) for k in range(5)}


def test_after_a_lease_expired_only_the_second_consumer_can_ack(engine: Engine) -> None:
    engine.put(QUEUE, message(1))
    first = engine.fetch(RoundRobin(WEIGHTS), 1, lease_ms=1).deliveries
    second = wait_until(lambda: engine.fetch(RoundRobin(WEIGHTS), 1).deliveries, seconds=10)

    assert engine.ack(first) == [LeaseStatus.STALE]
    assert engine.renew(first) == [LeaseStatus.STALE]
    assert second[0].deliveries == 2
    assert engine.ack(second) == [LeaseStatus.DONE]
    assert engine.ack(second) == [LeaseStatus.UNKNOWN]


def test_an_ack_and_a_cancel_at_once_are_counted_once(engine: Engine) -> None:
    for number in range(100):
        engine.put(QUEUE, message(number))
        deliveries = engine.fetch(RoundRobin(WEIGHTS), 1).deliveries
        with ThreadPoolExecutor(2) as pool:
            acked, cancelled = pool.submit(engine.ack, deliveries), pool.submit(engine.cancel, QUEUE, f"task-{number}")
        expected = LeaseStatus.CANCELLED if cancelled.result().marked else LeaseStatus.DONE
        assert acked.result() == [expected]
    stats = engine.stats([QUEUE])[0]
    assert (stats.waiting, stats.leased, stats.counters["acked"]) == (0, 0, 100)


def test_requeue_and_purge_at_once_lose_no_message_uncounted(engine: Engine) -> None:
    for number in range(60):
        engine.put(QUEUE, message(number, key="k" if number % 2 else None))
        for delivery in engine.fetch(RoundRobin(WEIGHTS), 1).deliveries:
            engine.bury([delivery], reason="test")
    ids = [info.stored.id for info in engine.peek(QUEUE, MessageState.DEAD, limit=100)]
    with ThreadPoolExecutor(4) as pool:
        requeued = [pool.submit(engine.requeue, QUEUE, ids[start : start + 10]) for start in range(0, 60, 10)]
        purged = [pool.submit(engine.purge, QUEUE) for _ in range(4)]
    assert all(code is LeaseStatus.DONE for future in requeued for code in future.result())
    stats = engine.stats([QUEUE])[0]
    assert sum(future.result() for future in purged) + stats.waiting == 60
    assert stats.dead == 0


def test_renew_reports_a_cancel_and_the_message_is_not_delivered_again(engine: Engine) -> None:
    engine.put(QUEUE, message(1))
    held = engine.fetch(RoundRobin(WEIGHTS), 1).deliveries
    assert engine.cancel(QUEUE, "task-1").marked == 1

    assert engine.renew(held) == [LeaseStatus.CANCELLED]
    assert engine.release(held) == [LeaseStatus.CANCELLED]
    assert engine.fetch(RoundRobin(WEIGHTS), 1).deliveries == []
    with pytest.raises(UnknownMessage):
        engine.find(QUEUE, "task-1")


def test_all_keys_of_a_queue_that_expires_vanish(engine: Engine) -> None:
    engine.limit(QUEUE, Limits(expires_ms=300))
    engine.put(QUEUE, message(1))
    engine.put(QUEUE, message(2))
    engine.fetch(RoundRobin(WEIGHTS), 1)

    def keys() -> list[bytes]:
        found: list[bytes] = engine.runner.call("KEYS", f"laneway:{{{QUEUE}}}:*")
        return [key for key in found if b":producer:" not in key]

    assert keys()
    wait_until(lambda: not keys(), seconds=10)
