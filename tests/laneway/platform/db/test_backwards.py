"""Lists of deliveries and of the audit log are read back from the newest row, within a limit of time."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

import pytest
from sqlalchemy import event, insert, select

from laneway.platform import clock
from laneway.platform.db.models import OutboundDelivery
from laneway.platform.db.queries import outbound_webhooks
from laneway.platform.db.queries.backwards import FIRST_PART, Found, read_backwards
from laneway.platform.db.queries.outbound_webhooks import DeliveryFilter
from laneway.platform.db.session import Database
from laneway.schemas.task import TaskState
from tests.laneway.platform.db.test_query_plans import plan_of

ROWS = 3 * FIRST_PART


@pytest.fixture
def database(new_database: Database) -> Database:
    """A new one, whose rows are numbered from 1."""
    return new_database


@pytest.fixture
def deliveries(database: Database) -> Database:
    """Deliveries; the oldest and the newest one have another event."""
    now = clock.now()
    row: dict[str, Any] = {
        "endpoint_id": "e",
        "url": "https://shop.example/",
        "body": "{}",
        "attempts": 1,
        "put_off": 0,
    }
    row |= {"state": TaskState.COMPLETED, "occurred_at": now, "created_at": now, "touched_at": now}
    rows = [
        row | {"id": f"d-{number}", "event": "rare" if number in (1, ROWS) else "e"} for number in range(1, ROWS + 1)
    ]
    with database.transaction() as session:
        session.execute(insert(OutboundDelivery), rows)
    return database


def ids(found: Found[outbound_webhooks.Logged]) -> list[str]:
    return [delivery.id for delivery, _ in found.rows]


def test_a_rare_event_is_found_in_all_deliveries(deliveries: Database) -> None:
    found, before = list[str](), None
    with deliveries.reading() as session:
        while True:  # a busy machine needs several calls
            part = outbound_webhooks.scan(session, DeliveryFilter(event="rare"), before=before, limit=5)
            found += ids(part)
            before = part.next
            if before is None:
                break

    assert found == [f"d-{ROWS}", "d-1"]


def test_a_full_page_says_where_the_next_one_begins(deliveries: Database) -> None:
    with deliveries.reading() as session:
        newest = outbound_webhooks.scan(session, DeliveryFilter(), before=None, limit=2)
        older = outbound_webhooks.scan(session, DeliveryFilter(event="e"), before=newest.next, limit=1)

    assert (ids(newest), newest.next) == ([f"d-{ROWS}", f"d-{ROWS - 1}"], ROWS - 1)
    assert ids(older) == [f"d-{ROWS - 2}"]


def test_what_is_not_found_in_time_is_searched_by_the_next_call(deliveries: Database) -> None:
    def read(within: Any, limit: int) -> list[OutboundDelivery]:
        chosen = select(OutboundDelivery).where(within, OutboundDelivery.event == "rare")
        return list(session.scalars(chosen.order_by(OutboundDelivery.seq.desc()).limit(limit)))

    with deliveries.reading() as session:
        of, number = OutboundDelivery.seq, attrgetter("seq")
        first = read_backwards(session, of, read, number_of=number, before=None, limit=5, seconds=0)
        rest = read_backwards(session, of, read, number_of=number, before=first.next, limit=5)

    assert ([row.id for row in first.rows], first.next) == ([f"d-{ROWS}"], ROWS + 1 - FIRST_PART)
    assert ([row.id for row in rest.rows], rest.next) == (["d-1"], None)


def test_parts_are_read_by_the_primary_key(deliveries: Database) -> None:
    executed: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        executed.append((statement, parameters))

    event.listen(deliveries.engine, "before_cursor_execute", note)
    with deliveries.reading() as session:
        outbound_webhooks.scan(session, DeliveryFilter(states=(TaskState.COMPLETED,)), before=None, limit=5)
    event.remove(deliveries.engine, "before_cursor_execute", note)

    plan = plan_of(deliveries, *executed[-1])
    assert ("INTEGER PRIMARY KEY" if deliveries.is_sqlite else "outbound_deliveries_pkey") in plan
    assert "TEMP B-TREE" not in plan
