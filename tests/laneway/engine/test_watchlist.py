"""Which of many queues a consumer looks at, and in which turns."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from laneway.engine.round_robin import LOOK_AT_ALL, RoundRobin
from laneway.engine.watchlist import MAX_PATROL, MAX_SOON, MAX_WORKING, MIN_PATROL, Choice

NOW = 1_790_000_000_000
IDLE_POLL = 1_000


def round_robin(queues: int, **weights: int) -> RoundRobin:
    return RoundRobin({f"q{number}": weights.get(f"q{number}", 1) for number in range(queues)})


def learn(consumer: RoundRobin, choice: Choice, *, passed: int = 0, times: dict[str, int] | None = None) -> int | None:
    """The reply to a fetch that has delivered nothing; `times`: queue -> when something becomes due."""
    names = [consumer.queues[index] for index in choice.queues]
    flat = [value for queue, at in (times or {}).items() for value in (names.index(queue) + 1, at)]
    return consumer.learn(choice, now=NOW, passed=passed, delivering=(), times=flat, expiring=())


def chosen(consumer: RoundRobin, n: int = 64) -> list[str]:
    choice, _ = consumer.choose(n, IDLE_POLL)
    learn(consumer, choice)
    return [consumer.queues[index] for index in choice.queues]


def see_all(consumer: RoundRobin) -> None:
    """Let the consumer see that no queue has work."""
    while True:
        choice, _ = consumer.choose(64, IDLE_POLL)
        if learn(consumer, choice) is None:
            return


@given(
    queues=st.integers(LOOK_AT_ALL + 1, 600),
    rung=st.sets(st.integers(0, LOOK_AT_ALL)),
    n=st.integers(1, 300),
    weight=st.integers(1, 100),
)
@settings(max_examples=60, deadline=None)
def test_a_choice_can_be_sent_and_each_of_its_queues_has_a_turn(
    queues: int, rung: set[int], n: int, weight: int
) -> None:
    consumer = round_robin(queues, q3=weight)
    for step in range(8):
        for number in rung:
            consumer.ring(f"q{number}")
        choice, start = consumer.choose(n, IDLE_POLL)
        assert start == 0
        assert len(choice.queues) == len(set(choice.queues)) <= 255
        assert set(choice.turns) == set(range(1, len(choice.queues) + 1))
        assert [choice.queues[turn - 1] + 1 for turn in choice.turns[: len(choice.positions)]] == [
            consumer.cycle[position] for position in choice.positions
        ]
        learn(consumer, choice, passed=step)


def test_a_queue_that_rings_is_looked_at_next_and_an_idle_fetch_looks_at_an_eighth() -> None:
    consumer = round_robin(400)
    see_all(consumer)
    consumer.ring("q333")
    consumer.ring("a queue of another consumer")
    assert chosen(consumer)[0] == "q333"
    assert len(chosen(consumer)) == 400 // 8


def test_each_queue_is_looked_at_within_a_bounded_number_of_idle_fetches() -> None:
    for queues, most in ((17, 8), (400, 8), (768, 8), (10_000, 10_000 // MAX_PATROL + 1)):
        consumer = round_robin(queues)
        see_all(consumer)
        seen = Counter(queue for _ in range(most) for queue in chosen(consumer))
        assert len(seen) == queues


def test_each_queue_is_looked_at_while_others_always_have_work() -> None:
    consumer = round_robin(200, q0=100)
    seen: set[str] = set()
    for _ in range(200 // MIN_PATROL):
        choice, _ = consumer.choose(4, IDLE_POLL)
        names = [consumer.queues[index] for index in choice.queues]
        seen.update(names)
        work = {queue: NOW for queue in names if queue in ("q0", "q1", "q2")}
        assert learn(consumer, choice, passed=1, times=work) == NOW
        for number in range(3):
            consumer.ring(f"q{number}")
    assert len(seen) == 200


def test_times_are_kept_until_they_are_near_and_the_earliest_one_is_told() -> None:
    consumer = round_robin(300)
    see_all(consumer)
    consumer.ring("q7")
    choice, _ = consumer.choose(4, IDLE_POLL)
    assert learn(consumer, choice, times={"q7": NOW + 60_000}) == NOW + 60_000
    for _ in range(300):
        names = chosen(consumer)
        assert names[0] != "q7", "it is not yet near"
        if "q7" in names:
            break
    consumer.ring("q9")
    choice, _ = consumer.choose(4, IDLE_POLL)
    assert learn(consumer, choice, times={"q9": NOW + 500}) == NOW + 500
    assert chosen(consumer)[0] == "q9", "it is near"
    assert chosen(consumer)[0] != "q9", "the server did not tell this consumer to come then"


def test_the_same_times_told_again_and_again_take_no_more_memory() -> None:
    consumer = round_robin(100)
    see_all(consumer)
    watchlist = consumer._watchlist  # pyright: ignore[reportPrivateUsage]
    assert watchlist
    for _ in range(2_000):
        choice, _ = consumer.choose(4, IDLE_POLL)
        names = [consumer.queues[index] for index in choice.queues]
        learn(consumer, choice, times=dict.fromkeys(names, NOW + 3600000))
    assert len(watchlist._later) <= 2 * 100 + 65  # pyright: ignore[reportPrivateUsage]


def test_the_bounds_of_a_choice_fit_into_one_byte() -> None:
    assert MAX_WORKING + MAX_SOON + MAX_PATROL <= 255
