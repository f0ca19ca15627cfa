"""The embedded Valkey takes nobody who does not know its password, which every process finds by its settings."""

from __future__ import annotations

import stat
import subprocess
from collections.abc import Generator

import psutil
import pytest
import redis

from app.core.settings import Settings
from laneway.engine import Engine
from laneway.engine.errors import LoginRefused
from laneway.platform.errors import ConfigError
from laneway.server.prepare import wait_for_broker
from laneway.server.valkey import embedded_argv
from tests.laneway.server.conftest import MakeSettings


@pytest.fixture
def embedded(make_settings: MakeSettings) -> Generator[Settings]:
    settings = make_settings()
    server = psutil.Popen(embedded_argv(settings), stdout=subprocess.DEVNULL)
    try:
        wait_for_broker(settings, wait_seconds=10)
        yield settings
    finally:
        server.kill()
        server.wait()


def test_who_does_not_know_the_password_puts_no_message(embedded: Settings) -> None:
    port = embedded.redis.port

    for url in (f"redis://127.0.0.1:{port}/0", f"redis://:guess@127.0.0.1:{port}/0"):
        with pytest.raises(LoginRefused):
            Engine.from_url(url).check()
    Engine.from_url(embedded.redis.broker_url).check()
    with redis.Redis.from_url(embedded.redis.result_url) as client:
        assert client.ping()


def test_only_our_user_can_read_the_password_and_no_command_line_has_it(embedded: Settings) -> None:
    folder, password = embedded.storage.folder, embedded.redis.password
    assert password is not None and len(password) >= 24

    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for file in (folder / "broker-password", folder / "valkey" / "users.acl"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    assert password not in (folder / "valkey" / "users.acl").read_text()
    assert all(password not in word for process in psutil.Process().children() for word in process.cmdline())
    assert password not in repr(embedded) + str(embedded.redis)


def test_a_file_that_others_can_read_is_closed_to_them(make_settings: MakeSettings) -> None:
    settings = make_settings()
    file = settings.storage.folder / "broker-password"
    first = settings.redis.password
    file.chmod(0o644)

    assert settings.redis.password == first
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_another_server_is_asked_without_the_password(make_settings: MakeSettings) -> None:
    assert make_settings(REDIS_HOST="db.internal").redis.broker_url.startswith("redis://db.internal:")
    settings = make_settings(REDIS_URL="redis://127.0.0.1:7000")

    assert settings.redis.broker_url == "redis://127.0.0.1:7000/0"
    assert not settings.storage.folder.exists()


def test_a_folder_that_cannot_hold_the_password_is_refused(make_settings: MakeSettings) -> None:
    settings = make_settings()
    settings.storage.folder.write_text("a file")

    with pytest.raises(ConfigError, match="DATA_DIR cannot be used"):
        _ = settings.redis.broker_url
