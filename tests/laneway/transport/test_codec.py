"""What a worker sees is what Celery sent, and little of it is stored."""

from __future__ import annotations

import json
import struct
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from laneway.engine.engine import Delivery
from laneway.engine.lease import Lease
from laneway.engine.message import Message, Unique, UniqueMode, encode, pack_id
from laneway.transport.codec import HEADER_LEASE, broadcast_message, from_delivery, message_options, to_message

ID = "0b8a1c1e-6f4e-4b0e-9f8e-2c5d2f2b7a11"
EMBED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


def celery_message(args: list[Any], **headers: Any) -> dict[str, Any]:
    """As Celery 5.7 publishes it (`app.amqp.as_task_v2`)."""
    all_headers: dict[str, Any] = {
        "lang": "py",
        "task": "app.work",
        "id": ID,
        "shadow": None,
        "eta": None,
        "expires": None,
        "group": None,
        "group_index": None,
        "retries": 0,
        "timelimit": [None, None],
        "root_id": ID,
        "parent_id": None,
        "argsrepr": "()",
        "kwargsrepr": "{}",
        "origin": "gen1@host",
        "ignore_result": False,
        "replaced_task_nesting": 0,
        "stamped_headers": None,
        "stamps": {},
        **headers,
    }
    return {
        "body": json.dumps([args, {}, EMBED]),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": all_headers,
        "properties": {
            "correlation_id": ID,
            "reply_to": "r-1",
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": "work"},
            "priority": 3,
            "body_encoding": None,
            "delivery_tag": "x",
        },
    }


def through(raw: dict[str, Any], *, deliveries: int = 1) -> tuple[Message, dict[str, Any]]:
    message = to_message(raw, new_id="new")
    _, record = encode(message)
    delivery = Delivery("work", pack_id(message.task_id), deliveries, struct.pack(">d", 1.0) + record, b"token")
    return message, from_delivery(delivery, "7")


@pytest.mark.parametrize("headers", [{}, {"retries": 2, "timelimit": [3, 4]}, {"root_id": "other"}, {"custom": [1]}])
def test_a_task_message_arrives_as_it_was_sent(headers: dict[str, Any]) -> None:
    raw = celery_message([1, "é\0"], **headers)
    _, arrived = through(raw)
    assert arrived["headers"] == raw["headers"] | {HEADER_LEASE: str(Lease("work", pack_id(ID), b"token"))}
    assert json.loads(arrived["body"]) == json.loads(raw["body"])
    assert arrived["properties"] == raw["properties"] | {
        "delivery_tag": "7",
        "delivery_info": {"exchange": "", "routing_key": "work", "redelivered": False},
    }


def test_the_lease_of_one_delivery_does_not_go_with_what_its_task_sends() -> None:
    raw = celery_message([1])
    _, arrived = through(raw)
    message, again = through(celery_message([1], **{HEADER_LEASE: arrived["headers"][HEADER_LEASE] + "-old"}))
    assert b"lease" not in message.body
    assert again["headers"] == arrived["headers"]


def test_a_no_op_costs_few_bytes() -> None:
    raw = celery_message([])
    del raw["headers"]["origin"], raw["properties"]["reply_to"]
    assert len(to_message(raw, new_id="new").body) < 20


def test_a_due_time_is_the_broker_s_business_and_arrives_as_it_was_said() -> None:
    said = "2026-11-22T11:00:00.250123+01:00"
    message, arrived = through(celery_message([], eta=said))
    assert message.eta_ms == 1_795_341_600_250
    assert arrived["headers"]["eta"] == said


def test_options_travel_in_headers_and_stay_there() -> None:
    options = message_options(key="k", unique=Unique("u", UniqueMode.FOR_TIME, 500), max_deliveries=2)
    message, arrived = through(celery_message([], **options))
    assert (message.key, message.unique, message.max_deliveries) == ("k", Unique("u", UniqueMode.FOR_TIME, 500), 2)
    assert {name: arrived["headers"][name] for name in options} == options


def test_a_binary_body_of_another_program_arrives_as_it_was_sent() -> None:
    raw: dict[str, Any] = {
        "body": b"\x00\x80\xff",
        "content-type": "application/x-python-serialize",
        "content-encoding": "binary",
        "headers": {"x": 1},
        "properties": {"delivery_info": {"exchange": "ex", "routing_key": "rk"}, "ticket": "t"},
    }
    message, arrived = through(raw)
    assert message.task_id == "new"
    lease = str(Lease("work", b"new", b"token"))
    assert (arrived["body"], arrived["headers"]) == (raw["body"], raw["headers"] | {HEADER_LEASE: lease})
    assert arrived["content-type"] == raw["content-type"]
    assert arrived["properties"]["delivery_info"]["exchange"] == "ex"


def stored(raw: dict[str, Any]) -> dict[str, Any]:
    """The message as a worker gets it."""
    message = to_message(raw)
    id, record = encode(message)
    delivery = Delivery("work", id[1:], 1, struct.pack(">d", 1.0) + record, b"token")
    return from_delivery(delivery, "tag")


def test_headers_keep_the_types_that_stock_celery_keeps() -> None:
    odd: dict[str, Any] = {
        "at": datetime(2026, 2, 3, 4, 5, tzinfo=UTC),
        "order": UUID(ID),
        "price": Decimal("1.50"),
        "raw": b"\xff\x00",
    }
    read = stored(celery_message([1], stamps={"at": odd["at"]}, stamped_headers=["at"], **odd))["headers"]
    assert {name: read[name] for name in odd} == odd
    assert read["stamps"] == {"at": odd["at"]}


@pytest.mark.parametrize("name", ["a" * 255, "a" * 256, "a" * 4000, "ü" * 128, "a" + "ü" * 300])
def test_a_long_task_name_arrives_whole(name: str) -> None:
    assert stored(celery_message([1], task=name))["headers"]["task"] == name


BROADCAST: dict[str, Any] = {
    "body": "e30=",
    "content-type": "application/json",
    "content-encoding": "utf-8",
    "headers": {},
    "properties": {"body_encoding": "base64", "delivery_info": {"exchange": "celery.pidbox"}, "delivery_tag": "x"},
}


def test_a_broadcast_is_read() -> None:
    assert broadcast_message(json.dumps(BROADCAST).encode()) == BROADCAST


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xff",
        b"[" * 100_000,
        b"7",
        b"{}",
        b'{"properties": []}',
        json.dumps(BROADCAST | {"body": 7}).encode(),
        json.dumps(BROADCAST | {"body": "not base64"}).encode(),
        json.dumps(BROADCAST | {"headers": "x"}).encode(),
        json.dumps(BROADCAST | {"properties": {"delivery_tag": "x", "body_encoding": "rot13"}}).encode(),
        json.dumps(BROADCAST | {"properties": {"body_encoding": None}}).encode(),
        json.dumps(BROADCAST | {"properties": {"delivery_tag": "x", "delivery_info": 7}}).encode(),
        json.dumps(BROADCAST | {"headers": {"at": {"__type__": "nothing", "__value__": 1}}}).encode(),
        json.dumps(BROADCAST | {"headers": {"price": {"__type__": "decimal", "__value__": "x"}}}).encode(),
    ],
)
def test_what_is_no_broadcast_is_refused(payload: bytes) -> None:
    with pytest.raises(ValueError, match="not a message"):
        broadcast_message(payload)


@pytest.mark.parametrize(("given", "engines"), [(0, 9), (3, 6), (9, 0), (None, 9), (50, 0)])
def test_priorities_can_count_as_in_the_stock_transport(given: int | None, engines: int) -> None:
    raw = celery_message([1])
    raw["properties"]["priority"] = given
    message = to_message(raw, zero_goes_first=True)
    assert message.priority == engines
    id, record = encode(message)
    delivery = Delivery("work", id[1:], 1, struct.pack(">d", 1.0) + record, b"token")
    assert from_delivery(delivery, "tag", zero_goes_first=True)["properties"]["priority"] == 9 - engines
