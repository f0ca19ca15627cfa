"""Gives each kind of process an ACL user of its own on the broker, with the rights that it needs and no others.

1. A user is named `laneway-<role>`; the roles are in `RIGHTS`.
2. Its password is new at each call. The previous one stays valid, so that running processes are not cut off, until
   `revoke_previous` removes it.
3. The addresses with the passwords are written to `DATA_DIR/broker-users/<role>.env`, which only this user can read.
   Written before the server is changed: a crash in between leaves files that the next call replaces.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import redis
from redis.exceptions import RedisError, ResponseError

from laneway.platform.application import application
from laneway.platform.errors import ConfigError
from laneway.platform.operations.intake import CELERY_DEFAULT
from laneway.platform.queues import queues
from laneway.platform.settings import Settings
from laneway.server.checks import make_folder
from laneway.server.errors import FolderUnusable, ServerUnreachable

FOLDER: Final = "broker-users"
MINIMUM_VERSION: Final = (7, 0)
"""Redis 6 has no rights to read only. Every Valkey has them."""
WITH_WAITAOF: Final = (7, 2)
"""The first version with WAITAOF, which the durability `disk` needs."""
COMMANDS: Final = (
    *("-@all", "+@connection", "+@read", "+@write", "+@pubsub", "+@transaction", "+@scripting", "+time", "+wait"),
    *("-@dangerous", "-@admin", "-function", "-script|flush", "-script|kill", "-script|debug", "+info"),
)
"""What every user may do with its keys. Nobody may read or change the server's configuration, its users, its clients,
or empty a database. redis-py loads scripts with SCRIPT LOAD: without it nothing is sent."""
_QUEUES: Final = ("~laneway:*", "&laneway:*")
_READ_QUEUES: Final = ("%R~laneway:*", "~laneway:{check}:limits", "&laneway:*")
"""The key `check` is in no queue: a process that connects writes there to see that the server takes commands."""
_OWN_QUEUES: Final = (
    "~laneway:{*.reply.celery.pidbox}*",
    "~laneway:bindings:reply.celery.pidbox",
    "~laneway:{celeryev.*}*",
)
"""The queues of a process that watches workers: their replies to control commands, and their events."""
_CONTROL: Final = "~laneway:fanout:*:celery.pidbox:once:*"
"""Where the server remembers that a control command was published."""
_RESULTS: Final = ("~celery-*", "&celery-*")
RIGHTS: Final[dict[str, tuple[str, ...]]] = {
    "api": (*_QUEUES, *_RESULTS),
    "worker": (*_QUEUES, *_RESULTS),
    "beat": _READ_QUEUES,
    "flower": (*_READ_QUEUES, *_OWN_QUEUES, _CONTROL, "%R~celery-*", "&celery-*"),
    "cli": (*_QUEUES, *_RESULTS),
}
"""Role → the keys and channels that it may use: queues, and results (`celery-task-meta-…`)."""
SENDS: Final = ("beat",)
"""These put tasks into the queues that are declared, and write no other key of the engine."""
INTAKE: Final = ("worker", "cli")
"""These also take in what other Celery programs have put into lists that have the names of our queues."""


@dataclass(frozen=True, slots=True)
class BrokerUser:
    """One user. `file` has its addresses of broker and results, as settings."""

    role: str
    name: str
    file: str


@dataclass(frozen=True, slots=True)
class BrokerUsers:
    """The users of a broker. `saved`: the server keeps them over a restart."""

    users: list[BrokerUser]
    saved: bool


def make_users(settings: Settings, *, revoke_previous: bool = False) -> BrokerUsers:
    """Create or renew the users on the servers of broker and results, with the login of the settings.

    `revoke_previous`: give no new passwords, and remove all but those in the files.

    Raises ServerUnreachable, which also says that the login may not change users; ConfigError; FolderUnusable.
    """
    urls = {"CELERY_BROKER_URL": settings.redis.broker_url, "CELERY_RESULT_BACKEND": settings.redis.result_url}
    for setting, url in urls.items():
        if urlsplit(url).scheme not in ("redis", "rediss"):
            raise ConfigError(f"{setting} is not on Redis or Valkey (redis:// or rediss://), which has these users.")
    folder = make_folder(make_folder(settings.storage.folder) / FOLDER)
    passwords = {
        role: _stored_password(folder / f"{role}.env") if revoke_previous else secrets.token_urlsafe(24)
        for role in RIGHTS
    }
    users = [
        BrokerUser(role, name, str(_write(folder / f"{role}.env", name, password, urls)))
        for role, password in passwords.items()
        for name in [f"laneway-{role}"]
    ]
    servers = {urlsplit(url).netloc: url for url in reversed(urls.values())}
    saved = [_set_users(url, passwords, keep_previous=not revoke_previous) for url in servers.values()]
    return BrokerUsers(users, all(saved))


def _set_users(url: str, passwords: dict[str, str], *, keep_previous: bool) -> bool:
    """Set the users on one server. Returns whether the server has stored them."""
    parts = urlsplit(url)
    address = f"{parts.scheme}://{parts.hostname}:{parts.port or 6379}"
    client: Any = redis.Redis.from_url(url, socket_timeout=5)  # pyright: ignore[reportUnknownMemberType]
    try:
        version = str(client.info("server").get("redis_version", "0"))
        numbers = tuple(int(part) for part in version.split(".")[:2])
        if numbers < MINIMUM_VERSION:
            raise ConfigError(f"{address} runs Redis {version}: these users need Valkey, or Redis 7 or newer.")
        durable = ["+waitaof"] if numbers >= WITH_WAITAOF else []
        for role, password in passwords.items():
            before = ["resetkeys", "resetchannels", "on", *([] if keep_previous else ["resetpass"])]
            rules = [*before, f"#{_digest(password)}", *COMMANDS, *durable, *_rights(role)]
            client.execute_command("ACL", "SETUSER", f"laneway-{role}", *rules)
        return _save(client)
    except RedisError as error:
        raise ServerUnreachable("REDIS_URL", address, f"its users cannot be changed: {error}") from error
    finally:
        client.close()


def _rights(role: str) -> list[str]:
    """The keys and channels of a role. A list of kombu has the name of its queue, or two characters and a step more."""
    if role not in (*INTAKE, *SENDS):
        return [*RIGHTS[role]]
    application().declare_queues()
    names = [re.sub(r"([\\*?\[\]])", r"\\\1", queue) for queue in (*queues, CELERY_DEFAULT)]
    if role in SENDS:
        return [
            *RIGHTS[role],
            *(f"~laneway:{place}" for name in names for place in (f"{{{name}}}*", f"bindings:{name}")),
        ]
    return [*RIGHTS[role], *(f"~{name}{step}" for name in names for step in ("", "??[0-9]"))]


def _save(client: Any) -> bool:
    """Store the users in the server's ACL file, or in its configuration file."""
    for command in (("ACL", "SAVE"), ("CONFIG", "REWRITE")):
        with suppress(ResponseError):
            client.execute_command(*command)
            return True
    return False


def _write(path: Path, name: str, password: str, urls: dict[str, str]) -> Path:
    """Write the settings of one role, so that no other user can read them at any time."""
    lines = [f"{setting}={_with_login(url, f'{name}:{password}')}\n" for setting, url in urls.items()]
    _replace(path, lines)
    return path


def _replace(path: Path, lines: Iterable[str]) -> None:
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        with open(draft, "w", opener=lambda file, flags: os.open(file, flags, 0o600)) as file:
            file.writelines(lines)
        draft.replace(path)
    except OSError as error:
        raise FolderUnusable(str(path), error.strerror or type(error).__name__) from error


def _stored_password(path: Path) -> str:
    try:
        line = path.read_text("utf-8").partition("\n")[0]
    except OSError as error:
        raise ConfigError(f"{path} is not there: run `laneway broker users` without --revoke-previous.") from error
    password = urlsplit(line.partition("=")[2]).password
    if not password:
        raise ConfigError(f"{path} has no password: run `laneway broker users` without --revoke-previous.")
    return password


def _with_login(url: str, login: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{login}@{parts.netloc.rpartition('@')[2]}"))


def _digest(password: str) -> str:
    return hashlib.sha256(password.encode()).hexdigest()
