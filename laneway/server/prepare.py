"""Waits for the broker and the database, and migrates the tables, before a process of the platform starts."""

from __future__ import annotations

import time
from collections.abc import Callable
from urllib.parse import SplitResult, urlsplit

from kombu.connection import Connection
from kombu.exceptions import KombuError
from redis.exceptions import AuthenticationError, RedisError
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from laneway.platform.application import application
from laneway.platform.db.session import Database
from laneway.platform.errors import ConfigError, DatabaseUnavailable
from laneway.platform.settings import Settings
from laneway.platform.signing_check import check_signing
from laneway.server.errors import ServerUnreachable

CONNECT_SECONDS = 3
PAUSE_SECONDS = 0.3


def prepare(settings: Settings, *, wait_seconds: float = 60, adopt_broker: bool = False) -> None:
    """Wait for broker and database (`wait_seconds` each), then migrate the tables. Many processes may call it at once.

    Then mark the broker as this installation's; with `adopt_broker`, also one that another installation has marked.

    Raises ServerUnreachable; ForeignBroker; ConfigError for an address that cannot be parsed, and for a key ring that
    cannot be used.
    """
    check_signing(settings)
    wait_for_broker(settings, wait_seconds=wait_seconds)
    wait_for_database(settings, wait_seconds=wait_seconds)
    try:
        application().upgrade(settings)
    except (SQLAlchemyError, DatabaseUnavailable) as error:
        raise ServerUnreachable(
            *_database_setting(settings), f"its tables cannot be brought up to date: {_one_line(error)}"
        ) from error
    platform = application().make_platform(settings)
    try:
        platform.installation.check_broker(adopt=adopt_broker)
    finally:
        platform.close()


def wait_for_broker(settings: Settings, *, wait_seconds: float) -> None:
    """Wait until broker and result store answer. Raises ServerUnreachable, for a refused login at once."""
    redis = settings.redis
    server = "REDIS_URL" if redis.url else "REDIS_HOST/REDIS_PORT"
    _wait_for(
        redis.broker_url, setting="CELERY_BROKER_URL" if redis.celery_broker_url else server, seconds=wait_seconds
    )
    if redis.result_url.startswith(("redis:", "rediss:")):  # Celery itself connects to other kinds of result stores
        setting = "CELERY_RESULT_BACKEND" if redis.celery_result_backend else server
        _wait_for(redis.result_url, setting=setting, seconds=wait_seconds)


def wait_for_database(settings: Settings, *, wait_seconds: float) -> None:
    """Wait until the database answers a query. Raises ServerUnreachable."""
    setting, address = _database_setting(settings)
    try:
        database = Database(settings.storage.url)
    except OSError as error:  # the folder of a SQLite file cannot be created
        raise ServerUnreachable(setting, address, error.strerror or type(error).__name__) from error

    def query() -> None:
        with database.reading() as session:
            session.execute(text("SELECT 1"))

    try:
        _retry(query, wait_seconds, (DatabaseUnavailable, SQLAlchemyError), setting=setting, address=address)
    finally:
        database.close()


def _wait_for(url: str, *, setting: str, seconds: float) -> None:
    address = without_login(url, setting=setting)
    options = {"socket_connect_timeout": CONNECT_SECONDS, "socket_timeout": CONNECT_SECONDS}

    def connect() -> None:
        with Connection(url, connect_timeout=CONNECT_SECONDS, transport_options=options) as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0, timeout=CONNECT_SECONDS)

    try:
        _retry(connect, seconds, (KombuError, RedisError, OSError), setting=setting, address=address)
    except (KeyError, ValueError, ImportError) as error:  # from kombu, for an unknown scheme
        raise ConfigError(f"{setting} cannot be used: {address} is not the address of a broker.") from error


def _retry(
    attempt: Callable[[], None], seconds: float, errors: tuple[type[Exception], ...], *, setting: str, address: str
) -> None:
    """Call `attempt` until it succeeds. Raises ServerUnreachable when the time is over, for a refused login at once."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return attempt()
        except errors as error:
            login_refused = isinstance(error.__cause__, AuthenticationError)
            if login_refused or time.monotonic() + PAUSE_SECONDS > deadline:
                raise ServerUnreachable(setting, address, _one_line(error)) from error
        time.sleep(PAUSE_SECONDS)


def _database_setting(settings: Settings) -> tuple[str, str]:
    """The setting that names the database, and the address without its login."""
    url = settings.storage.url
    if url.startswith("sqlite"):
        return ("DATABASE_URL" if settings.storage.database_url else "DATA_DIR"), url.partition("?")[0]
    return "DATABASE_URL", without_login(url, setting="DATABASE_URL").replace("+psycopg", "")


def without_login(url: str, *, setting: str) -> str:
    """An address without its login. Raises ConfigError if a character of the password may have split the address."""
    parts = _split(url)
    if parts is None or "@" in parts.path + parts.query + parts.fragment or parts.netloc.count("@") > 1:
        raise ConfigError(
            f"{setting} cannot be parsed: in the password of an address, characters such as / ? # @ : must be "
            "percent-encoded (@ is %40)."
        )
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return parts


def _one_line(error: BaseException) -> str:
    """The server's reason in one line of at most 300 characters."""
    reason = " ".join(str(getattr(error, "orig", None) or error).split()) or type(error).__name__
    return reason if len(reason) <= 300 else reason[:299] + "…"
