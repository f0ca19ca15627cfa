"""`laneway.install` puts the engine under an app, and only under that app."""

from __future__ import annotations

import gc
import subprocess
import sys
import warnings
import weakref
from typing import Any, ClassVar

import celery.app.task
import pytest
from celery import Celery
from celery.app import amqp
from kombu.connection import Connection

import laneway
from laneway.engine import InvalidUrl
from laneway.installation import (
    CONSUMER,
    POOL,
    PRODUCER,
    RESULT_BACKEND,
    TRANSPORT,
    WORKER_STEP,
    AlreadyInstalled,
    InstalledTooLate,
    InvalidOption,
)
from laneway.results.backend import ResultBackend
from laneway.worker.producer import AMQP
from laneway.worker.task_classes import CELERY_REQUEST, CELERY_STRATEGY, REQUEST, STRATEGY
from tests.fixtures.valkey import RedisUrls
from tests.laneway.worker.workers import Start, app, start

__all__ = ["app", "start"]
BROKER, RESULTS = "redis://127.0.0.1:1/0", "redis://127.0.0.1:1/1"


def make_app(**options: Any) -> Celery:
    return Celery("installed", broker=BROKER, set_as_current=False, **options)


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CELERY_RESULT_BACKEND", "CELERY_BROKER_URL"):
        monkeypatch.delenv(name, raising=False)


def test_one_call_sets_everything() -> None:
    app = make_app(backend=RESULTS)
    laneway.install(app, lease=5, weights={"a": 3}, poll_interval=0.5, cancel_signal="TERM", connection={"db": 2})

    assert app.conf.broker_transport == TRANSPORT
    assert app.conf.broker_transport_options == {
        "lease": 5,
        "weights": {"a": 3},
        "poll_interval": 0.5,
        "cancel_signal": "TERM",
        "connection": {"db": 2},
    }
    assert app.conf.result_backend == f"{RESULT_BACKEND}+{RESULTS}"
    assert (app.conf.worker_pool, app.conf.worker_consumer) == (POOL, CONSUMER)
    assert (app.Task.Request, app.Task.Strategy) == (REQUEST, STRATEGY)
    assert WORKER_STEP in app.steps["consumer"]
    assert isinstance(app.amqp, AMQP)
    assert isinstance(app.backend, ResultBackend)


def test_another_app_and_celerys_own_classes_stay_as_they_are() -> None:
    laneway.install(make_app())
    other = make_app(backend=RESULTS)

    assert other.conf.broker_transport is None
    assert other.conf.result_backend == RESULTS
    assert type(other.amqp) is amqp.AMQP
    assert WORKER_STEP not in other.steps["consumer"]
    assert (other.Task.Request, other.Task.Strategy) == (CELERY_REQUEST, CELERY_STRATEGY)
    assert celery.app.task.Task.Request == CELERY_REQUEST


def test_connecting_changes_no_class_of_celery(redis_urls: RedisUrls) -> None:
    import celery.worker.consumer.consumer  # as in a worker

    with Connection(redis_urls.broker, transport=TRANSPORT) as connection:
        connection.connect()
    assert celery.worker.consumer.consumer
    assert celery.app.task.Task.Request == CELERY_REQUEST
    assert celery.app.task.Task.Strategy == CELERY_STRATEGY


class Config:
    """Settings in an object."""

    broker_url = BROKER
    result_backend = RESULTS
    worker_pool = "threads"
    broker_transport_options: ClassVar[dict[str, Any]] = {"lease": 9, "max_retries": 1}


@pytest.mark.parametrize("order", ["before", "after", "after it was read"])
def test_the_configuration_may_come_before_or_after(order: str) -> None:
    app = Celery("installed", set_as_current=False)
    if order == "before":
        laneway.install(app, lease=5)
        app.config_from_object(Config)
    else:
        app.config_from_object(Config)
        if order == "after it was read":
            assert app.conf.result_backend == RESULTS
        laneway.install(app, lease=5)

    assert app.conf.broker_transport == TRANSPORT
    assert app.conf.broker_transport_options == {"lease": 5, "max_retries": 1}
    assert app.conf.result_backend == f"{RESULT_BACKEND}+{RESULTS}"
    assert app.conf.worker_pool == "threads", "the project's own pool stays"
    assert isinstance(app.backend, ResultBackend)


def test_the_configuration_may_be_read_again() -> None:
    app = Celery("installed", set_as_current=False)
    laneway.install(app)
    assert app.conf.broker_transport == TRANSPORT
    app.config_from_object(Config, force=True)
    assert app.conf.broker_transport == TRANSPORT
    assert app.conf.result_backend == f"{RESULT_BACKEND}+{RESULTS}"


class Django:
    """Settings with a prefix."""

    CELERY_BROKER_URL = BROKER
    CELERY_RESULT_BACKEND = RESULTS
    CELERY_BROKER_TRANSPORT_OPTIONS: ClassVar[dict[str, Any]] = {"max_retries": 1}


@pytest.mark.parametrize("is_before", [True, False])
def test_settings_with_a_prefix_are_taken_too(*, is_before: bool) -> None:
    app = Celery("installed", set_as_current=False)
    if is_before:
        laneway.install(app, lease=5)
    app.config_from_object(Django, namespace="CELERY")
    if not is_before:
        laneway.install(app, lease=5)

    assert app.conf.broker_transport == TRANSPORT
    assert app.conf.broker_transport_options == {"lease": 5, "max_retries": 1}
    assert isinstance(app.backend, ResultBackend)
    assert app.conf.worker_consumer == CONSUMER


def test_the_result_backend_in_the_environment_gets_the_engine_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELERY_RESULT_BACKEND", "redis://127.0.0.1:1/9")
    app = make_app(backend=RESULTS)
    laneway.install(app)

    assert app.conf.broker_transport == TRANSPORT
    backend = app.backend
    assert isinstance(backend, ResultBackend)
    assert backend.connparams["db"] == 9


@pytest.mark.parametrize(
    ("backend", "installed"),
    [
        (None, None),
        ("cache+memory://", "cache+memory://"),
        ("rpc://", "rpc://"),
        ("rediss://h/1", f"{RESULT_BACKEND}+rediss://h/1"),
        ("sentinel://h:1/1;sentinel://i:1/1", f"{RESULT_BACKEND}+sentinel://h:1/1;sentinel://i:1/1"),
        ("redis+socket:///s?virtual_host=1", f"{RESULT_BACKEND}+socket:///s?virtual_host=1"),
        (f"{RESULT_BACKEND}+{RESULTS}", f"{RESULT_BACKEND}+{RESULTS}"),
    ],
)
def test_a_backend_on_redis_gets_the_engine_and_another_stays(backend: str | None, installed: str | None) -> None:
    app = make_app(backend=backend)
    laneway.install(app)
    assert app.conf.result_backend == installed


def test_results_can_stay_with_celery() -> None:
    app = make_app(backend=RESULTS)
    laneway.install(app, results=False)
    assert app.conf.result_backend == RESULTS
    assert not isinstance(app.backend, ResultBackend)


class OwnAMQP(amqp.AMQP):
    """A producer class of the project."""


def test_a_producer_a_consumer_and_a_request_class_of_the_project_stay() -> None:
    app = make_app(amqp=OwnAMQP)
    app.conf.worker_consumer = "project:Consumer"
    app.Task.Request = "project:Request"
    laneway.install(app)

    assert isinstance(app.amqp, OwnAMQP)
    assert app.conf.worker_consumer == "project:Consumer"
    assert app.Task.Request == "project:Request"


def test_a_second_call_with_the_same_options_changes_nothing_and_with_others_is_an_error() -> None:
    app = make_app(backend=RESULTS)
    first = laneway.install(app, weights={"a": 1})
    assert laneway.install(app, weights={"a": 1}) == first
    assert app.amqp
    assert laneway.install(app, weights={"a": 1}) == first, "also when the app is in use"
    with pytest.raises(AlreadyInstalled, match=r"weights={a: 1}.*, now weights={a: 2}"):
        laneway.install(app, weights={"a": 2})


def test_an_app_that_is_in_use_is_an_error() -> None:
    app = make_app()
    assert app.amqp
    with pytest.raises(InstalledTooLate, match="producer"):
        laneway.install(app)

    app = make_app(backend=RESULTS)
    assert app.backend
    with pytest.raises(InstalledTooLate, match="result backend"):
        laneway.install(app)
    laneway.install(app, results=False)

    app = make_app()
    assert app.backend, "none is configured"
    laneway.install(app)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("lease", 0.5),
        ("lease", 100_000),
        ("lease", float("nan")),
        ("lease", "30"),
        ("lease", True),
        ("poll_interval", 0),
        ("poll_interval", 61),
        ("weights", ["a"]),
        ("weights", {"a": 0}),
        ("weights", {"a": 101}),
        ("weights", {"a": 1.5}),
        ("weights", {"": 1}),
        ("cancel_signal", "STOP IT"),
        ("cancel_signal", 15),
        ("connection", "redis://"),
        ("connection", {1: 2}),
        ("results", "yes"),
    ],
)
def test_an_option_that_cannot_work_is_one_clear_sentence(option: str, value: object) -> None:
    app = make_app()
    with pytest.raises(InvalidOption, match=r"^laneway.install: .*must be .*, not .*\.$"):
        laneway.install(app, **{option: value})  # pyright: ignore[reportArgumentType]
    assert app.conf.broker_transport is None


def test_a_broker_that_is_not_redis_is_an_error_when_celery_connects() -> None:
    app = Celery("installed", broker="amqp://h//", set_as_current=False)
    laneway.install(app)
    with app.connection_for_write() as connection, pytest.raises(InvalidUrl, match="amqp"):
        connection.connect()


def test_what_was_set_is_shown_without_passwords() -> None:
    app = Celery("installed", broker="redis://me:secret1@h/0", backend="redis://:secret2@h/1", set_as_current=False)
    connection = {"password": "secret3", "socket_timeout": 10}
    installation = laneway.install(app, lease=5, connection=connection)
    text = str(installation)

    assert "secret" not in text + repr(installation)
    assert "broker_url = redis://me:**@h/0" in text
    assert f"result_backend = {RESULT_BACKEND}+redis://:**@h/1" in text
    assert "lease: 5" in text
    assert "socket_timeout: 10" in text
    for value in (TRANSPORT, POOL, CONSUMER, PRODUCER, REQUEST, STRATEGY, WORKER_STEP):
        assert value in text


def test_the_app_is_not_kept_alive() -> None:
    with warnings.catch_warnings():  # what other tests have left behind is not what this one is about
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    app = make_app()
    laneway.install(app)
    app.close()
    reference = weakref.ref(app)
    del app
    gc.collect()
    assert reference() is None


def test_importing_laneway_loads_neither_celery_nor_redis() -> None:
    code = "import sys, laneway; assert not {'celery', 'kombu', 'redis'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    code = "import sys, laneway; laneway.install; assert not {'celery', 'kombu'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_worker_with_the_transport_alone_warns_and_an_installed_one_does_not(
    app: Any, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = start("solo").wait_until_ready()
    assert "without laneway.install" not in worker.log.read_text()
    monkeypatch.setenv("INSTALL", "no")
    worker = start("solo").wait_until_ready()
    assert worker.log.read_text().count("without laneway.install") == 1
