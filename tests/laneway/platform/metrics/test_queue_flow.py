"""Rates of a queue from two looks at its totals."""

from __future__ import annotations

from laneway.platform.metrics.queue_flow import QueueFlow


def test_rates_are_the_differences_in_a_second() -> None:
    earlier = QueueFlow.of("mail", {"put": 10, "acked": 4}, at=100.0)
    later = QueueFlow.of(
        "mail", {"put": 28, "requeued": 2, "acked": 9, "cancelled": 2, "purged": 1, "buried": 2}, at=110
    )

    assert later.rates_since(earlier) == (2.0, 1.0)


def test_totals_that_began_again_and_equal_times_are_no_rate() -> None:
    flow = QueueFlow("mail", 5, 5, 100.0)

    assert QueueFlow("mail", 1, 2, 101.0).rates_since(flow) == (0, 0)
    assert QueueFlow("mail", 9, 9, 100.0).rates_since(flow) == (0, 0)
