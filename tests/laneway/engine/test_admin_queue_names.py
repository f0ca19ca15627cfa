"""`Engine.queue_names`: the queues of a database that hold messages."""

from __future__ import annotations

from laneway.engine import Engine, Message


def put(engine: Engine, *queues: str) -> None:
    for queue in queues:
        engine.put(queue, Message(id="m", task_id="m", name="t", body=b""))


def test_each_queue_with_messages_is_named_once(engine: Engine) -> None:
    put(engine, "a", "b:c", "großer name", "a")
    put(engine, "emptied")
    engine.purge("emptied")

    assert engine.queue_names() == ["a", "b:c", "großer name"]


def test_the_queues_of_another_prefix_are_not_named(engine: Engine, engine_url: str) -> None:
    put(engine, "ours")
    for prefix, queue in (("x*-", "starred"), ("xyz-", "other")):
        with_prefix = Engine.from_url(engine_url, owner="test", key_prefix=prefix)
        put(with_prefix, queue)
        assert with_prefix.queue_names() == [queue]
        with_prefix.close()


def test_a_key_that_is_no_text_is_left_out(engine: Engine) -> None:
    put(engine, "ours")
    engine.runner.call("HSET", b"laneway:{\xff}:messages", "a", "b")
    assert engine.queue_names() == ["ours"]
