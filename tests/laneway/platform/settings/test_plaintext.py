"""A password is not sent to another machine without TLS, unless the settings allow it by name."""

from __future__ import annotations

import pytest

from app.core.settings import load_settings
from laneway.platform.errors import ConfigError
from laneway.platform.settings.plaintext import database_gets_password, plain_host, sends_password_to
from tests.fixtures.platform import Environment


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("postgresql+psycopg://u:p@db.example/shop", "db.example"),
        ("postgresql+psycopg://u:p@10.0.0.7:5432/shop?sslmode=prefer", "10.0.0.7"),
        ("postgresql+psycopg://u:p@127.0.0.1/shop?host=db.example", "db.example"),
        ("postgresql+psycopg://u:p@127.0.0.1/shop?host=127.0.0.1,db.example", "db.example"),
        ("postgresql+psycopg://u:p@localhost/shop?hostaddr=10.0.0.7", "10.0.0.7"),
        ("postgresql+psycopg://u@db.example/shop?password=p", "db.example"),
        ("postgresql+psycopg://u:p@db.example/shop?sslmode=require&sslmode=allow", "db.example"),
        ("postgresql+psycopg://u:p@db.example/shop?sslmode=verify-full", None),
        ("postgresql+psycopg://u:p@db.example/shop?sslmode=require", None),
        ("postgresql+psycopg://u@db.example/shop", None),
        ("postgresql+psycopg://u:p@localhost:5432/shop", None),
        ("postgresql+psycopg://u:p@[::1]/shop", None),
        ("postgresql+psycopg://u:p@/shop?host=/var/run/postgresql", None),
        ("sqlite:////data/laneway.db", None),
    ],
)
def test_who_gets_the_password_of_a_database(url: str, host: str | None) -> None:
    assert database_gets_password(url) == host


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("redis://:p@queues.example/0", "queues.example"),
        ("laneway+redis://:p@10.0.0.7:6379/0", "10.0.0.7"),
        ("redis://:p@localhost/0;sentinel://:p@queues.example:26379/0", "queues.example"),
        ("amqp://u:p@queues.example//", "queues.example"),
        ("pyamqp://u:p@queues.example//", "queues.example"),
        ("http://u:p@hooks.example/", "hooks.example"),
        ("rediss://:p@queues.example/0", None),
        ("amqps://u:p@queues.example//", None),
        ("https://u:p@hooks.example/", None),
        ("redis://queues.example/0", None),
        ("redis://:p@127.0.0.1/0", None),
        ("redis://:p@[::1]/0", None),
        ("redis+socket:///run/valkey.sock", None),
    ],
)
def test_who_gets_the_password_of_a_broker(url: str, host: str | None) -> None:
    assert sends_password_to(url) == host


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://models.example/v1", "models.example"),
        ("https://models.example/v1", None),
        ("http://localhost:8080/v1", None),
        ("", None),
        (None, None),
    ],
)
def test_who_gets_what_is_sent_by_http_without_tls(url: str | None, host: str | None) -> None:
    assert plain_host(url) == host


def test_a_database_on_another_machine_needs_tls_or_an_exception(environment: Environment) -> None:
    url = "postgresql://shop:hunter2@db.example/shop"
    environment(DATABASE_URL=url)
    with pytest.raises(ConfigError) as refused:
        load_settings()

    told = str(refused.value)
    assert "DATABASE_URL sends a key or a password to db.example without TLS" in told
    assert "sslmode=verify-full" in told
    assert "hunter2" not in told
    environment(DATABASE_URL=url, ALLOW_INSECURE="DATABASE_URL")
    assert load_settings().storage.url.endswith("@db.example/shop")
    environment(DATABASE_URL=f"{url}?sslmode=verify-full", ALLOW_INSECURE="")
    assert load_settings().storage.url.endswith("?sslmode=verify-full")
