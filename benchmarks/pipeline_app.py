"""The application's Celery app with tasks for benchmarks: one does nothing, to measure the cost of the platform."""

from __future__ import annotations

import hashlib
import os
from functools import cache
from typing import Any, Final

from sqlalchemy import Engine, create_engine, text

from app.core.celery_app import celery_app
from laneway import Chunk, task
from laneway.schemas.payload import Payload

__all__ = ["NOTHING", "ROW", "ROWS", "WORK", "Blob", "Rounds", "Row", "celery_app", "rows"]


class Blob(Payload):
    """Data of any size."""

    data: str = ""


@task(queue="maintenance")
def bench_nothing_task(payload: Blob) -> dict[str, Any]:
    """Do nothing."""
    return {"bytes": len(payload.data)}


class Rounds(Payload):
    """An amount of work."""

    rounds: int


@task(queue="maintenance")
def bench_work_task(payload: Rounds) -> dict[str, Any]:
    """Hash so many rounds, which takes time in proportion."""
    return {"digest": hashlib.pbkdf2_hmac("sha256", b"laneway", b"forecast", payload.rounds).hex()}


class Row(Payload):
    """A row to store."""

    number: int


@cache
def rows() -> Engine:
    """The database in which rows are stored: BENCH_DATABASE, or a file beside the application's own."""
    engine = create_engine(os.environ.get("BENCH_DATABASE") or f"sqlite:///{os.environ['DATA_DIR']}/rows.db")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE IF NOT EXISTS bench_rows (number INTEGER)"))
    return engine


def _store(payloads: list[Row]) -> None:
    with rows().begin() as connection:
        connection.execute(_INSERT, [{"number": payload.number} for payload in payloads])


_INSERT: Final = text("INSERT INTO bench_rows (number) VALUES (:number)")


@task(queue="maintenance")
def bench_row_task(payload: Row) -> None:
    """Store one row, in a transaction."""
    _store([payload])


@task(queue="maintenance", chunk=Chunk(size=100, seconds=1))
def bench_rows_task(payloads: list[Row]) -> None:
    """Store many rows, in a transaction."""
    _store(payloads)


NOTHING: Final = bench_nothing_task.spec
WORK: Final = bench_work_task.spec
ROW: Final = bench_row_task.spec
ROWS: Final = bench_rows_task.spec
