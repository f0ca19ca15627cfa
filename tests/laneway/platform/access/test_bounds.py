"""A bound caller sees the same tasks one by one and in lists."""

from __future__ import annotations

from typing import Any

import pytest

from laneway.platform import clock
from laneway.platform.access.bounds import covers, require_queue
from laneway.platform.access.caller import Caller, acting_as
from laneway.platform.access.errors import NotAllowed
from laneway.platform.db.queries import search
from laneway.platform.db.queries.search import Filter
from laneway.platform.db.session import Database
from laneway.platform.history.adoption import run_from_call

TASKS = {
    "tenant:acme:1": ("report", "analytics"),
    "tenant:acme:2": ("message", "crm"),
    "tenant:acme-2:1": ("report", "analytics"),
    "tenant:ACME:1": ("report", "analytics"),
    "x:tenant:acme:1": ("report", "crm"),
    "1": ("message", "analytics"),
}
"""Id → name and queue."""
CASES: list[tuple[dict[str, Any], set[str]]] = [
    ({}, set(TASKS)),
    ({"tenant": "acme"}, {"tenant:acme:1", "tenant:acme:2"}),
    ({"tenant": "acm_"}, set()),
    ({"queues": frozenset({"crm"})}, {"tenant:acme:2", "x:tenant:acme:1"}),
    ({"names": frozenset({"message"})}, {"tenant:acme:2", "1"}),
    ({"queues": frozenset(), "names": frozenset({"message"})}, set()),
    ({"names": frozenset()}, set()),
    ({"tenant": "acme", "queues": frozenset({"crm"}), "names": frozenset({"report"})}, set()),
    ({"tenant": "acme", "queues": frozenset({"crm"}), "names": frozenset({"message"})}, {"tenant:acme:2"}),
]


@pytest.fixture
def tasks(platform_database: Database) -> Database:
    """A database with these tasks."""
    with platform_database.transaction() as session:
        for id, (name, queue) in TASKS.items():
            session.add(run_from_call(id, name, {}, queue=queue, at=clock.now(), priority=3))
    return platform_database


def test_a_bound_caller_sees_what_is_its_own_and_nothing_else(tasks: Database) -> None:
    for bound, own in CASES:
        caller = Caller(kind="token", name="shop", **bound)
        with acting_as(caller), tasks.reading() as session:
            listed = {run.id for run in search.page(session, Filter(), limit=100)}
            by_id = {run.id for run in search.page(session, Filter(ids=tuple(TASKS)), limit=100)}
            assert search.count(session, Filter()) == len(own), bound
        covered = {id for id, (name, queue) in TASKS.items() if covers(caller, id, name=name, queue=queue)}
        assert listed == by_id == covered == own, bound


def test_a_queue_as_a_whole_is_for_callers_that_may_see_all_of_it() -> None:
    require_queue(Caller(kind="token", name="shop"), "crm")
    require_queue(Caller(kind="token", name="shop", queues=frozenset({"crm"})), "crm")
    for bound, _ in CASES[1:]:
        if bound != {"queues": frozenset({"crm"})}:
            with pytest.raises(NotAllowed):
                require_queue(Caller(kind="token", name="shop", **bound), "crm")
