"""Signed messages on a real server: what others put or change becomes a dead letter, and never runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery
from celery._state import get_current_app

import laneway
from laneway.engine import Engine, Message, MessageInfo, MessageState, Unique
from laneway.engine.keys import Keyspace
from laneway.testing.worker import InlineWorker
from laneway.transport import key_ring, signatures
from laneway.transport.key_ring import KeyRingFile, create_ring, read_ring
from laneway.transport.signatures import REASON, NotSigned, RingSigner, unsigned_body
from tests.laneway.conftest import DATABASE

QUEUE = "celery"
MakeApp = Callable[..., Celery]
ran: list[tuple[Any, ...]] = []


@pytest.fixture
def ring(tmp_path: Path) -> Path:
    create_ring(tmp_path / "ring.json")
    return tmp_path / "ring.json"


@pytest.fixture
def make_app(engine_url: str) -> Generator[MakeApp]:
    """Makes apps with the task `note`, which writes its arguments down."""
    ran.clear()
    made: list[Celery] = []

    def make(**options: Any) -> Celery:
        app = Celery("signed", broker=engine_url, set_as_current=False)
        laneway.install(app, results=False, **options)
        app.conf.update(task_ignore_result=True, task_acks_late=True)

        @app.task(name="note", shared=False)
        def note(*args: Any) -> None:
            ran.append(args)

        made.append(app)
        return app

    yield make
    for app in made:
        app.close()


def run_due(app: Celery) -> None:
    before = get_current_app()
    app.set_current()
    worker = InlineWorker(app, (QUEUE,))
    list(worker.run_due())
    worker.close()
    before.set_current()


def dead(engine: Engine) -> list[MessageInfo]:
    return engine.peek(QUEUE, MessageState.DEAD)


def why(info: MessageInfo) -> tuple[str, str]:
    assert info.dead_info is not None
    return info.dead_info.reason, info.dead_info.error


def connect(url: str) -> Any:
    """A client of the broker, as any program on its network can have one."""
    return redis.Redis.from_url(url)  # pyright: ignore[reportUnknownMemberType]


def stored(engine: Engine) -> Message:
    (info,) = engine.peek(QUEUE, MessageState.READY)
    return info.stored.message


def test_a_signed_task_runs_also_after_a_release_and_a_requeue(make_app: MakeApp, ring: Path, engine: Engine) -> None:
    app = make_app(key_ring=ring)
    app.send_task("note", (1,), headers=laneway.message_options(key="k", unique=Unique("u"), max_deliveries=3))
    app.send_task("note", (2,), priority=9)
    worker = InlineWorker(app, (QUEUE,))
    channel: Any = worker._connection.default_channel  # pyright: ignore[reportPrivateUsage]
    channel.basic_get(QUEUE).reject(requeue=True)  # the engine counts a delivery, and puts it back
    channel.basic_get(QUEUE).reject()
    worker.close()
    engine.requeue(QUEUE, [info.stored.id for info in dead(engine)])
    run_due(app)
    assert sorted(ran) == [(1,), (2,)]
    assert not dead(engine)


def test_what_a_process_without_the_key_sends_is_a_dead_letter_with_its_payload(
    make_app: MakeApp, ring: Path, engine: Engine
) -> None:
    make_app().send_task("note", ("forged",))
    payload = stored(engine).body
    run_due(make_app(key_ring=ring))
    (info,) = dead(engine)
    assert why(info)[0] == REASON
    assert "It has no signature: a process without the key ring has sent it" in why(info)[1]
    assert info.stored.message.body == payload
    engine.requeue(QUEUE, [info.stored.id])
    run_due(make_app(key_ring=ring))
    assert len(dead(engine)) == 1
    assert not ran


def test_a_message_of_another_ring_is_a_dead_letter(
    make_app: MakeApp, ring: Path, engine: Engine, tmp_path: Path
) -> None:
    create_ring(tmp_path / "other.json")
    make_app(key_ring=tmp_path / "other.json").send_task("note", ("forged",))
    run_due(make_app(key_ring=ring))
    assert "which the key ring does not have" in why(dead(engine)[0])[1]
    assert not ran


def test_a_record_that_was_changed_on_the_server_is_a_dead_letter(
    make_app: MakeApp, ring: Path, engine: Engine, engine_url: str
) -> None:
    app = make_app(key_ring=ring)
    app.send_task("note", ("pay 1",))
    key = engine.keys.key(QUEUE, "messages")
    with connect(engine_url) as client:
        ((id, record),) = client.hgetall(key).items()
        assert b"pay 1" in record
        client.hset(key, id, record.replace(b"pay 1", b"pay 9"))
    run_due(app)
    (info,) = dead(engine)
    assert why(info)[0] == REASON
    assert "is wrong: it was changed after it was signed" in why(info)[1]
    assert b"pay 9" in info.stored.message.body
    assert not ran


def test_the_signature_covers_all_that_decides_about_execution_and_nothing_that_the_engine_changes(
    ring: Path,
) -> None:
    signer = RingSigner(KeyRingFile(ring), required=True)
    plain = Message(
        task_id="t-1", name="note", body=b'{"h":{"origin":"a"}}\0[[],{}', key="k", unique=Unique("u"), eta_ms=5
    )
    signed = signer.sign("q", plain)
    assert unsigned_body(signed.body) == plain.body
    assert signer.sign("q", signed) == signed, "a second signature takes the place of the first"
    signer.check("q", replace(signed, id="renamed", priority=9))
    changed = [
        replace(signed, task_id="t-2"),
        replace(signed, name="delete_all"),
        replace(signed, key="other"),
        replace(signed, unique=Unique("v")),
        replace(signed, unique=None),
        replace(signed, eta_ms=None),
        replace(signed, max_deliveries=9),
        replace(signed, body_known=True),
        replace(signed, body=signed.body.replace(b"origin", b"Origin")),
        replace(signed, body=signed.body + b" "),
        replace(signed, body=plain.body),
    ]
    assert [signer.is_ours("q", message) for message in changed] == [False] * len(changed)
    assert not signer.is_ours("another queue", signed)
    empty = signer.sign("q", Message(task_id="t", body=b"\0[[],{}"))
    signer.check("q", empty)
    assert unsigned_body(empty.body) == b"\0[[],{}"


def test_keys_are_rotated_with_an_overlap(
    make_app: MakeApp, ring: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_ring, "CHECK_SECONDS", 0.0)
    app = make_app(key_ring=ring)
    app.send_task("note", ("old key",))
    read_ring(ring).rotated(overlap=timedelta()).write(ring)
    new, old = read_ring(ring).keys
    app.send_task("note", ("new key",))
    heads = [info.stored.message.body[6:12] for info in engine.peek(QUEUE, MessageState.READY)]
    assert heads == [old.id.encode(), new.id.encode()]
    run_due(app)
    assert ran == [("old key",), ("new key",)]
    app.send_task("note", ("new key",))
    new_ring = read_ring(ring).rotated(overlap=timedelta())
    new_ring.without(new.id).write(ring)
    run_due(app)
    assert "the key was removed" in why(dead(engine)[0])[1]


def test_while_processes_are_still_unsigned_everything_is_accepted(
    make_app: MakeApp, ring: Path, engine: Engine
) -> None:
    make_app().send_task("note", ("unsigned",))
    signing = make_app(key_ring=ring, signing="sign")
    signing.send_task("note", ("signed",))
    assert b'"s":"' in engine.peek(QUEUE, MessageState.READY)[1].stored.message.body
    run_due(signing)
    make_app(key_ring=ring, signing="sign").send_task("note", ("read by an older one",))
    run_due(make_app())
    assert ran == [("unsigned",), ("signed",), ("read by an older one",)]


def test_control_commands_of_others_copies_and_old_ones_are_ignored(
    make_app: MakeApp, ring: Path, engine_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    app, calls = make_app(key_ring=ring), list[Any]()

    def shout(*_: Any, **__: Any) -> None:
        calls.append(1)

    node: Any = app.control.mailbox.Node("w1@test", handlers={"shout": shout}, state=app)
    channel_name = Keyspace("", DATABASE).fanout("celery.pidbox")
    connection: Any = app.connection_for_read()
    with connection, connect(engine_url) as client:
        node.channel = connection.channel()
        consumer = node.listen(callback=node.handle_message)
        with client.pubsub(ignore_subscribe_messages=True) as listening:
            listening.subscribe(channel_name)
            listening.get_message(timeout=5)
            app.control.broadcast("shout")
            _drain(connection)
            assert calls == [1]
            message: Any = listening.get_message(timeout=5)
        client.publish(channel_name, message["data"])  # a copy
        client.publish(channel_name, message["data"].replace(b"shout", b"SHOUT"))
        make_app().control.broadcast("shout")  # no signature
        _drain(connection)
        consumer.cancel()
        node.channel.close()
    assert calls == [1]
    for text in ("is a copy of a control command", "is wrong: it was changed", "it has no signature"):
        assert text in caplog.text


def test_a_broadcast_has_an_age_and_an_exchange(ring: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signer = RingSigner(KeyRingFile(ring), required=True)
    payload = signer.sign_broadcast("celeryev", '{"body": 1}').encode()
    signer.check_broadcast("celeryev", payload, receiver="a")
    signer.check_broadcast("celeryev", payload, receiver="a")  # events may come twice
    with pytest.raises(NotSigned, match="wrong"):
        signer.check_broadcast("celery.pidbox", payload, receiver="a")
    now = time.time()
    monkeypatch.setattr(signatures, "time", lambda: now + 61)
    with pytest.raises(NotSigned, match=r"it was signed 6[12] s ago: it is a copy, or the clocks"):
        signer.check_broadcast("celeryev", payload, receiver="a")


@pytest.mark.parametrize(
    ("purpose", "text", "change"),
    [
        ("schedule b", "every hour", lambda signature: signature),
        ("schedule a", "every minute", lambda signature: signature),
        ("schedule a", "every hour", lambda _: None),
        ("schedule a", "every hour", lambda _: ""),
        ("schedule a", "every hour", lambda signature: signature.partition(":")[0]),
        ("schedule a", "every hour", lambda signature: signature.partition(":")[0] + ":"),
        ("schedule a", "every hour", lambda signature: "none:" + signature.partition(":")[2]),
        ("schedule a", "every hour", lambda signature: signature[:-1]),
    ],
)
def test_the_signature_of_a_text_is_for_this_text_and_this_purpose(
    ring: Path, purpose: str, text: str, change: Callable[[str], str | None]
) -> None:
    signer = RingSigner(KeyRingFile(ring), required=True)
    signature = signer.sign_text("schedule a", "every hour")
    signer.check_text("schedule a", "every hour", signature)
    with pytest.raises(NotSigned):
        signer.check_text(purpose, text, change(signature))


def _drain(connection: Any) -> None:
    try:
        while True:
            connection.drain_events(timeout=0.3)
    except TimeoutError:
        pass
