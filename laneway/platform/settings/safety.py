"""What settings must not be: secrets that can be guessed, keys sent without TLS, files that everybody can read.

Each is refused at start, or corrected where that is possible, unless ALLOW_INSECURE names the setting.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from pydantic import Field

from laneway.platform.settings.base import Group

LEAST_BYTES: Final = 16
"""A shorter secret can be found by trying."""
ENV_FILE: Final = "ENV_FILE"
"""The name of `.env` in ALLOW_INSECURE."""
DATA_DIR: Final = "DATA_DIR"
OWN_FILES: Final = ("laneway.db", "valkey", "up.lock", "broker-password", "command-key", "flower-password", "objects")
"""What a folder of data has in it. A folder with other things only is not ours to close."""
_OTHERS: Final = stat.S_IRWXO


class SafetySettings(Group):
    """Exceptions from the rules of safety."""

    allowed: str = Field("", alias="ALLOW_INSECURE")
    """Names of settings, separated by commas, that may break a rule: a secret of less than 16 bytes, an address that
    gets a key or a password without TLS, `DATA_DIR` or `ENV_FILE` (`.env`) that every user of the machine can read.
    """

    @property
    def names(self) -> frozenset[str]:
        """The names in ALLOW_INSECURE."""
        return frozenset(name.strip().upper() for name in self.allowed.split(",") if name.strip())


def unsafe_settings(groups: Iterable[Group], allowed: frozenset[str]) -> Iterator[str]:
    """One sentence for each setting that breaks a rule and is not allowed to."""
    for group in groups:
        for name, secret in group.own_secrets().items():
            if len(secret) < LEAST_BYTES and not {name.upper(), name.partition("[")[0]} & allowed:
                yield (
                    f"{name} has less than {LEAST_BYTES} bytes, so that others can guess it: use a random text "
                    f"(openssl rand -hex 24), or add {name} to ALLOW_INSECURE"
                )
        for name, host in group.exposed().items():
            if name not in allowed:
                yield (
                    f"{name} sends a key or a password to {host} without TLS: use https:// (rediss://, amqps://; "
                    f"?sslmode=verify-full for PostgreSQL), or add {name} to ALLOW_INSECURE if nobody else can read "
                    "that network"
                )


def open_files(env_file: Path | None, folder: Path, allowed: frozenset[str]) -> Iterator[str]:
    """Close `.env` and the data folder to other users; one sentence for each that cannot be closed."""
    if env_file is not None and ENV_FILE not in allowed:
        yield from _closed(env_file, ENV_FILE, is_ours=True)
    if DATA_DIR not in allowed:
        yield from _closed(folder, DATA_DIR, is_ours=_is_ours(folder))


def _closed(path: Path, name: str, *, is_ours: bool) -> Iterator[str]:
    try:
        found = path.stat()
    except OSError:  # it is not there, or is reported by who reads it
        return
    if not found.st_mode & _OTHERS:
        return
    if is_ours and found.st_uid == os.geteuid() and not found.st_mode & stat.S_ISVTX:
        path.chmod(stat.S_IMODE(found.st_mode) & ~_OTHERS)
        return
    yield (
        f"{path} is open to every user of this machine: take their rights away (chmod o-rwx), or add {name} to "
        "ALLOW_INSECURE"
    )


def _is_ours(folder: Path) -> bool:
    """Whether a folder is empty, or has data of the platform in it."""
    try:
        names = {entry.name for entry in os.scandir(folder)}
    except OSError:
        return False
    return not names or bool(names & set(OWN_FILES))
