# redis-py types its commands in part only.
from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Generator
from pathlib import Path

import pytest
import redis

from laneway.platform.errors import ConfigError
from laneway.server.errors import ServerUnreachable
from laneway.server.prepare import prepare, wait_for_broker, wait_for_database, without_login
from tests.fixtures.valkey import RedisUrls, RunningValkey, free_port
from tests.laneway.server.conftest import MakeSettings

SECRET = "pa55-word"


def tables(path: Path) -> set[str]:
    connection = sqlite3.connect(path)
    try:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    finally:
        connection.close()


@pytest.fixture
def protected(valkey: RunningValkey) -> Generator[RunningValkey]:
    """The server with a password."""
    with redis.Redis.from_url(valkey.url()) as client:
        client.config_set("requirepass", SECRET)
        yield valkey
        client.config_set("requirepass", "")


def test_prepare_creates_the_tables_and_can_be_repeated(make_settings: MakeSettings, redis_urls: RedisUrls) -> None:
    settings = make_settings(CELERY_BROKER_URL=redis_urls.broker, CELERY_RESULT_BACKEND=redis_urls.backend)

    prepare(settings, wait_seconds=5)
    prepare(settings, wait_seconds=5)

    assert {"task_runs", "workers", "conversations"} <= tables(settings.storage.folder / "laneway.db")


def test_prepare_waits_for_a_broker_that_starts_late(make_settings: MakeSettings, tmp_path: Path) -> None:
    server = RunningValkey(tmp_path / "late", port=free_port())
    settings = make_settings(REDIS_URL=server.url())
    waiting = threading.Thread(target=wait_for_broker, args=(settings,), kwargs={"wait_seconds": 20})

    waiting.start()
    assert waiting.is_alive()
    server.start()
    waiting.join(20)

    assert not waiting.is_alive()
    server.stop()


def test_the_error_for_an_unreachable_broker_hides_its_login(make_settings: MakeSettings) -> None:
    port = free_port()
    settings = make_settings(REDIS_URL=f"redis://user:{SECRET}@127.0.0.1:{port}")

    begun = time.monotonic()
    with pytest.raises(ServerUnreachable) as error:
        wait_for_broker(settings, wait_seconds=1)

    assert time.monotonic() - begun < 5
    assert str(error.value).startswith(f"REDIS_URL names redis://127.0.0.1:{port}/0, which cannot be used: ")
    assert "Connection refused" in str(error.value)
    assert SECRET not in str(error.value) + repr(error.value)


def test_a_refused_login_is_reported_at_once(make_settings: MakeSettings, protected: RunningValkey) -> None:
    settings = make_settings(REDIS_URL=f"redis://:wrong-{SECRET}@127.0.0.1:{protected.port}")

    begun = time.monotonic()
    with pytest.raises(ServerUnreachable, match="password") as error:
        wait_for_broker(settings, wait_seconds=60)

    assert time.monotonic() - begun < 5
    assert SECRET not in str(error.value)


def test_a_valid_login_is_accepted(make_settings: MakeSettings, protected: RunningValkey) -> None:
    wait_for_broker(make_settings(REDIS_URL=f"redis://:{SECRET}@127.0.0.1:{protected.port}"), wait_seconds=2)


def test_the_error_for_an_unreachable_result_store_names_its_own_setting(
    make_settings: MakeSettings, redis_urls: RedisUrls
) -> None:
    settings = make_settings(
        CELERY_BROKER_URL=redis_urls.broker, CELERY_RESULT_BACKEND=f"redis://127.0.0.1:{free_port()}/1"
    )

    with pytest.raises(ServerUnreachable, match="CELERY_RESULT_BACKEND names"):
        wait_for_broker(settings, wait_seconds=0)


def test_an_address_of_an_unknown_scheme_is_a_configuration_error(make_settings: MakeSettings) -> None:
    with pytest.raises(ConfigError, match=r"CELERY_BROKER_URL cannot be used: ftp://127\.0\.0\.1"):
        wait_for_broker(make_settings(CELERY_BROKER_URL="ftp://127.0.0.1/0"), wait_seconds=0)


@pytest.mark.parametrize("mark", ["/", "?", "#", "@"])
def test_the_error_for_an_unquoted_password_shows_no_part_of_it(mark: str) -> None:
    for login in (f":left{mark}right", f"user:left{mark}right", f"user:12{mark}right"):
        with pytest.raises(ConfigError, match="must be percent-encoded") as error:
            without_login(f"redis://{login}@host:6379/0", setting="REDIS_URL")

        assert "left" not in str(error.value)
        assert "right" not in str(error.value)


def test_the_error_for_an_unreachable_database_server_hides_its_login(make_settings: MakeSettings) -> None:
    port = free_port()
    settings = make_settings(DATABASE_URL=f"postgresql://user:{SECRET}@127.0.0.1:{port}/laneway")

    with pytest.raises(ServerUnreachable) as error:
        wait_for_database(settings, wait_seconds=0)

    assert str(error.value).startswith(f"DATABASE_URL names postgresql://127.0.0.1:{port}/laneway, which cannot")
    assert SECRET not in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_a_database_is_reported(make_settings: MakeSettings, tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("this is not a database, and it is long enough to tell " * 20)

    with pytest.raises(ServerUnreachable, match=r"DATABASE_URL names sqlite:///.*not a database"):
        wait_for_database(make_settings(DATABASE_URL=f"sqlite:///{tmp_path}/text.db"), wait_seconds=0)


def test_a_database_folder_that_cannot_be_created_is_reported(make_settings: MakeSettings, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(ServerUnreachable, match="DATABASE_URL names sqlite:///"):
        wait_for_database(make_settings(DATABASE_URL=f"sqlite:///{tmp_path}/file/sub/laneway.db"), wait_seconds=0)
