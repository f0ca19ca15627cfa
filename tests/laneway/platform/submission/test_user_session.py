"""`options(session=...)`: a task is committed with the data of the caller's own session, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, MetaData, String, create_engine, func, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, scoped_session, sessionmaker

from app.services.container import Services
from laneway import task
from laneway.platform.current import platform_for_this_context
from laneway.platform.errors import BrokerUnavailable, Conflict, InvalidPayload, Unsupported
from laneway.platform.registry import registry
from laneway.platform.submission.invalid_options import InvalidOptions
from laneway.platform.submission.user_session import OtherDatabase
from laneway.schemas.task import TaskState
from laneway.testing import run
from tests.fixtures.platform import Platform
from tests.fixtures.waiting import wait_until


class Base(DeclarativeBase):
    """The tables of a user."""

    metadata = MetaData()


class Order(Base):
    """A row of the user's."""

    __tablename__ = "orders_of_a_user"

    id: Mapped[str] = mapped_column(String(20), primary_key=True)


@task(queue="maintenance", name="ship_order_of_a_user")
def ship(order: str) -> dict[str, str]:
    return {"shipped": order}


@pytest.fixture
def engine(platform: Platform, services: Services) -> Iterator[Engine]:
    """The user's own engine on the platform's database. Calls of the test go to its platform."""
    engine = create_engine(platform.database.url)
    Base.metadata.create_all(engine)
    registry.add(ship.spec, ship, source=f"{__name__}.ship")
    with platform_for_this_context(services):
        yield engine
    registry.remove(ship.name)
    Base.metadata.drop_all(engine)
    engine.dispose()


def orders(engine: Engine) -> int:
    with Session(engine) as session:
        return session.scalar(select(func.count()).select_from(Order)) or 0


def in_broker(platform: Platform, id: str) -> bool:
    engine = platform.broker.engine
    assert engine is not None
    return engine.find_many("maintenance", [id])[0] is not None


def test_a_task_is_committed_with_the_users_data_and_sent_after_it(platform: Platform, engine: Engine) -> None:
    with Session(engine) as session:
        session.add(Order(id="o-1"))
        handle = ship.options(session=session, id="ship-1").submit("o-1")
        assert (handle.state, handle.created) == (TaskState.ACCEPTED, True)
        assert not in_broker(platform, "ship-1")
        session.commit()

    assert in_broker(platform, "ship-1"), "sent by the commit itself"
    assert (platform.state("ship-1"), orders(engine)) == (TaskState.PENDING, 1)


def test_a_rollback_leaves_nothing(platform: Platform, engine: Engine) -> None:
    with Session(engine) as session:
        session.add(Order(id="o-1"))
        ship.options(session=session, id="ship-1").submit("o-1")
        ship.options(session=session).submit_many([("o-1",), ("o-2",)], ids=["ship-2", "ship-3"])
        session.rollback()
        session.add(Order(id="o-2"))
        ship.options(session=session, id="ship-4").submit("o-2")
        session.commit()

    assert (platform.tasks.counts(), orders(engine)) == ({TaskState.PENDING: 1}, 1)
    assert [in_broker(platform, id) for id in ("ship-1", "ship-2", "ship-3", "ship-4")] == [False, False, False, True]


def test_what_is_undone_to_a_savepoint_is_not_sent(platform: Platform, engine: Engine) -> None:
    with Session(engine) as session:
        ship.options(session=session, id="before").submit("o-1")
        session.execute(select(1))
        with session.begin_nested():
            ship.options(session=session, id="kept").submit("o-2")
        with pytest.raises(ZeroDivisionError), session.begin_nested():
            ship.options(session=session, id="undone").submit("o-3")
            raise ZeroDivisionError
        assert not in_broker(platform, "kept")
        session.commit()
    assert [in_broker(platform, id) for id in ("before", "kept", "undone")] == [True, True, False]


def test_a_commit_that_an_outer_transaction_undoes_sends_nothing(platform: Platform, engine: Engine) -> None:
    with engine.connect() as connection:
        outer = connection.begin()
        with Session(connection, join_transaction_mode="rollback_only") as session:
            ship.options(session=session, id="undone").submit("o-1")
            session.commit()
        assert not in_broker(platform, "undone")
        outer.rollback()
    platform.tasks.outbox.relay()
    assert (in_broker(platform, "undone"), platform.tasks.counts()) == (False, {})


@pytest.mark.parametrize("kind", ["connection", "scoped_session", "sessionmaker.begin"])
def test_other_forms_of_sessions(platform: Platform, engine: Engine, kind: str) -> None:
    if kind == "connection":
        with engine.connect() as connection:
            ship.options(session=connection, id="ship-1").submit("o-1")
            connection.commit()
        assert platform.state("ship-1") == TaskState.ACCEPTED, "a connection does not tell when it has committed"
        platform.tasks.outbox.relay()
    elif kind == "scoped_session":
        scoped = scoped_session(sessionmaker(engine))
        ship.options(session=scoped, id="ship-1").submit("o-1")
        scoped.commit()
        scoped.remove()
    else:
        with sessionmaker(engine).begin() as session:
            ship.options(session=session, id="ship-1").submit("o-1")
    assert (platform.state("ship-1"), in_broker(platform, "ship-1")) == (TaskState.PENDING, True)


def test_the_platforms_own_transaction_is_one(platform: Platform, services: Services, engine: Engine) -> None:
    with services.tasks.transaction() as change:
        ship.options(session=change.session, id="ship-1").submit("o-1")
    assert in_broker(platform, "ship-1")


def test_while_the_broker_is_away_the_task_waits_in_the_database(
    platform: Platform, services: Services, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(runs: Any) -> list[BrokerUnavailable]:
        return [BrokerUnavailable("away") for _ in runs]

    with monkeypatch.context() as broken:
        broken.setattr(services.broker, "publish_many", away)
        with Session(engine) as session:
            ship.options(session=session, id="ship-1").submit("o-1")
            session.commit()
    assert platform.state("ship-1") == TaskState.ACCEPTED
    platform.tasks.outbox.relay()
    assert platform.state("ship-1") == TaskState.PENDING


def test_what_is_refused_leaves_the_users_transaction_alone(platform: Platform, engine: Engine) -> None:
    with Session(engine) as session:
        session.add(Order(id="o-1"))
        ship.options(session=session, id="ship-1").submit("o-1")
        with pytest.raises(InvalidPayload):
            ship.options(session=session).submit(1)  # pyright: ignore[reportArgumentType]
        with pytest.raises(Conflict):
            ship.options(session=session, id="ship-1").submit("another")
        with pytest.raises(Unsupported, match="uniqueness or durability"):
            ship.options(session=session, unique="o-1").submit("o-1")
        assert not ship.options(session=session, id="ship-1").submit("o-1").created
        session.commit()
    assert (orders(engine), platform.tasks.counts()) == (1, {TaskState.PENDING: 1})


def test_a_session_of_another_database_is_refused(platform: Platform, engine: Engine, tmp_path: Any) -> None:
    other = create_engine(f"sqlite:///{tmp_path}/other.db")
    for _ in range(2):
        with Session(other) as session, pytest.raises(OtherDatabase, match=r"other\.db, but tasks are stored in"):
            ship.options(session=session).submit("o-1")
    other.dispose()


def test_what_is_no_session_is_refused(engine: Engine) -> None:
    odd: Any = object()
    with pytest.raises(InvalidOptions, match="session: expected a session or connection of SQLAlchemy"):
        ship.options(session=odd).submit("o-1")


async def submit_with_async_sessions(url: Any) -> None:
    engine = create_async_engine(url)
    async with AsyncSession(engine) as session:
        with pytest.raises(InvalidOptions, match=r"needs `await ….submit_async\(…\)`"):
            ship.options(session=session).submit("o-1")
        session.add(Order(id="o-1"))
        await ship.options(session=session, id="ship-1").submit_async("o-1")
        await session.commit()
        await ship.options(session=session, id="undone").submit_async("o-1")
        await session.rollback()
    async with engine.connect() as connection:
        assert isinstance(connection, AsyncConnection)
        await ship.options(session=connection).submit_many_async([("o-1",), ("o-2",)], ids=["ship-2", "ship-3"])
        await connection.commit()
    await engine.dispose()


def test_asynchronous_sessions(platform: Platform, engine: Engine) -> None:
    if platform.database.is_sqlite:
        pytest.skip("there is no asynchronous driver of SQLite here; the code is the same")
    asyncio.run(submit_with_async_sessions(platform.database.url))
    assert wait_until(lambda: in_broker(platform, "ship-1"), seconds=10), "sent in a thread after the commit"
    platform.tasks.outbox.relay()
    assert [in_broker(platform, id) for id in ("ship-2", "ship-3", "undone")] == [True, True, False]
    with Session(engine) as session, pytest.raises(InvalidOptions, match="submit_async needs an AsyncSession"):
        asyncio.run(ship.options(session=session).submit_async("o-1"))


def test_a_test_of_a_task_sees_what_was_committed() -> None:
    local = create_engine("sqlite://")

    @task(queue="maintenance", name="submits_in_a_session")
    def submits(undo: bool) -> None:
        with Session(local) as session:
            ship.options(session=session).submit("o-1")
            if undo:
                session.rollback()
            session.commit()

    try:
        assert [each.payload for each in run(submits, {"undo": False}).submitted] == [{"order": "o-1"}]
        assert run(submits, {"undo": True}).submitted == []
    finally:
        registry.remove(submits.name)
