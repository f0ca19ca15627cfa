"""Sends and runs tasks with Celery's own signing serializer, `auth`, on the engine; run as a program of its own.

`BROKER`: the broker. `CERTIFICATES`: a folder with `key.pem` and `chain.pem`. The program prints what ran and what was
refused. It is a program because Celery's `setup_security` disables serializers for the whole process.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from celery import Celery
from kombu.exceptions import KombuError

import laneway
from laneway.engine import Engine, MessageState
from laneway.testing.worker import InlineWorker

QUEUE = "celery"


def main() -> None:
    """Send a signed task and one whose signature was damaged, and run what may run."""
    folder = Path(os.environ["CERTIFICATES"])
    app: Any = Celery("auth", broker=os.environ["BROKER"])
    laneway.install(app, results=False)
    app.conf.update(
        security_key=str(folder / "key.pem"),
        security_certificate=str(folder / "chain.pem"),
        security_cert_store=str(folder / "chain.pem"),
        task_serializer="auth",
        event_serializer="auth",
        accept_content=["auth"],
        task_ignore_result=True,
        task_acks_late=True,
    )
    app.setup_security()

    @app.task(name="note")
    def note(text: str) -> None:  # pyright: ignore[reportUnusedFunction]
        print("ran", text)

    engine = Engine.from_url(os.environ["BROKER"])
    app.send_task("note", ("first",))
    app.send_task("note", ("damaged",))
    _damage(engine, engine.peek(QUEUE, MessageState.READY)[1].stored.id)
    worker = InlineWorker(app, (QUEUE,))
    try:
        list(worker.run_due())
    except KombuError as error:
        print("refused", error)


def _damage(engine: Engine, id: str) -> None:
    from laneway.engine.message import pack_id

    key, raw_id = engine.keys.key(QUEUE, "messages"), pack_id(id)
    record: bytes = engine.runner.call("HGET", key, raw_id)
    engine.runner.call("HSET", key, raw_id, record[:-20] + b"A" * 20)


if __name__ == "__main__":
    main()
