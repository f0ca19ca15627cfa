"""How a command finds the API process of its own project on this machine. Both sides use this; standard library alone.

1. The API listens on a socket of Linux's abstract namespace, which is gone when its process is. The name of the socket
   is a digest of the key in `DATA_DIR/command-key`.
2. Each side asks the kernel whose process the other one is, and talks to its own user alone.
3. The command then sends the key. A process of the same user that may not read the file, such as a confined child, is
   refused.
4. A message is one line of JSON. The first one of each side is the greeting (`Greeting`).
"""

from __future__ import annotations

import hashlib
import os
import socket
import stat
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

KEY_FILE: Final = "command-key"
LONGEST_KEY: Final = 200
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_CREDENTIALS: Final = struct.Struct("3i")
"""struct ucred of unix(7): process, user, group."""


def code_identity() -> list[int]:
    """Tells the code of one installation from that of another, and from that after an upgrade."""
    found = Path(__file__).parent.joinpath("__init__.py").stat()
    return [found.st_dev, found.st_ino, found.st_mtime_ns]


def is_supported() -> bool:
    """Whether this system has abstract names and tells the user of a peer: Linux."""
    return hasattr(socket, "SO_PEERCRED") and hasattr(os, "geteuid")


def address_of(key: str) -> str:
    """The name of the socket."""
    return "\0laneway-command-" + hashlib.sha256(b"laneway command socket\n" + key.encode()).hexdigest()[:40]


def is_of_this_user(descriptor: int) -> bool:
    """Whether the other side of a connected socket is a process of our own user."""
    with socket.socket(fileno=os.dup(descriptor)) as connection:
        given = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return _CREDENTIALS.unpack(given)[1] == os.geteuid()


def read_key(folder: Path) -> str | None:
    """The key in a data folder; None if there is none, or if it is not ours alone."""
    try:
        file = os.open(folder / KEY_FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        found = os.fstat(file)
        is_ours = stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & _OTHERS
        return os.read(file, LONGEST_KEY).decode("ascii").strip() or None if is_ours else None
    except (OSError, UnicodeDecodeError):
        return None
    finally:
        os.close(file)


def digest_of_file(path: Path | None) -> str | None:
    """The digest of a file's content; None if there is no such file, or it cannot be read."""
    try:
        return None if path is None else hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def digests(environment: Mapping[str, str], names: Iterable[str], *, salt: str) -> dict[str, str]:
    """Name of a setting → the digest of its value in an environment, where it is set. Case does not matter."""
    wanted = set(names)
    given = {name.upper(): value for name, value in environment.items() if value and name.upper() in wanted}
    return {name: hashlib.sha256(f"{salt}\n{value}".encode()).hexdigest() for name, value in given.items()}


def has_same_settings(greeting: Mapping[str, Any], environment: Mapping[str, str]) -> bool:
    """Whether a process with this environment would use the platform of the API that sent the greeting.

    What the environment sets, the API must have as well. Addresses of servers must also not be set for the API alone.
    """
    theirs: dict[str, str] = greeting["settings"]
    ours = digests(environment, greeting["names"], salt=greeting["salt"])
    servers: list[str] = greeting["servers"]
    return all(theirs.get(name) == digest for name, digest in ours.items()) and all(
        name in ours for name in servers if name in theirs
    )
