"""A lock that is free in a forked child."""

from __future__ import annotations

import threading

from laneway.engine.fork_lock import ForkLock
from tests.fixtures.forking import run_in_child


def test_a_child_takes_a_lock_that_another_thread_held_during_the_fork() -> None:
    lock, taken, done = ForkLock(), threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            taken.set()
            done.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    taken.wait(5)

    def take() -> None:
        with lock, lock:
            pass

    run_in_child(take)
    done.set()
    thread.join(5)


def test_threads_of_one_process_take_turns() -> None:
    lock, order = ForkLock(), list[str]()

    def take() -> None:
        with lock:
            order.append("other")

    with lock:
        thread = threading.Thread(target=take)
        thread.start()
        thread.join(0.1)
        order.append("first")
    thread.join(5)
    assert order == ["first", "other"]


def test_a_child_that_was_forked_inside_the_block_leaves_it_without_an_error() -> None:
    lock = ForkLock()

    def leave() -> None:
        lock.__exit__(None, None, None)
        with lock:
            pass

    with lock:
        run_in_child(leave)
