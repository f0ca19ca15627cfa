"""How a command finds the API process of its own project on this machine. Both sides use this; standard library alone.

1. The API listens on a socket of Linux's abstract namespace, which is gone when its process is. The name of the socket
   is a digest of the key in `DATA_DIR/command-key`.
2. Each side asks the kernel whose process the other one is, and talks to its own user alone.
3. Every process of the machine can read the name, and another one of the same user may listen there, such as a confined
   child. So nobody sends the key. Each side sends a nonce, and proves with a digest of both that it has the key: first
   the API, then the command (`proof`).
4. A message is one line of JSON. After the proofs the API sends its greeting (`has_same_settings` reads it).
"""

from __future__ import annotations

import errno
import hashlib
import hmac
import json
import os
import re
import socket
import stat
import struct
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Literal

KEY_FILE: Final = "command-key"
LONGEST_KEY: Final = 200
LONGEST_PROOF: Final = 1000
"""Bytes of the API's first message."""
NONCE: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_CREDENTIALS: Final = struct.Struct("3i")
"""struct ucred of unix(7): process, user, group."""


def code_identity(project: Path) -> list[int]:
    """Tells the code of the library and of a project from what it is after an upgrade or an edit.

    It looks at number, sizes and times of the Python files of both. Those of a project are the modules and packages in
    its folder and in its `src`, without `tests`. Packages that are installed elsewhere are not looked at.
    """
    own = Path(__file__).parent
    found = own.joinpath("__init__.py").stat()
    identity = [found.st_dev, found.st_ino, *_sums(own, _is_folder)]
    for folder in (project, project / "src"):
        identity += _sums(folder, _is_package)
    return identity


def _sums(folder: Path, is_looked_at: Callable[[os.DirEntry[str]], bool]) -> tuple[int, int, int]:
    """Number, bytes and times of the Python files in a folder, and in those of its folders that are looked at."""
    number = size = time = 0
    folders = [os.fspath(folder)]
    while folders:
        with suppress(OSError), os.scandir(folders.pop()) as entries:  # there is none, or it is gone by now
            for entry in entries:
                if entry.name.endswith(".py"):
                    found = entry.stat()
                    number, size, time = number + 1, size + found.st_size, time + found.st_mtime_ns
                elif is_looked_at(entry):
                    folders.append(entry.path)
        is_looked_at = _is_folder
    return number, size, time


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return entry.name != "__pycache__" and entry.is_dir(follow_symlinks=False)


def _is_package(entry: os.DirEntry[str]) -> bool:
    """Whether it is a package of a project; the library's own is looked at already where it is developed."""
    return entry.name not in ("tests", "laneway") and os.access(f"{entry.path}/__init__.py", os.F_OK)


def is_supported() -> bool:
    """Whether this system has abstract names and tells the user of a peer: Linux."""
    return hasattr(socket, "SO_PEERCRED") and hasattr(os, "geteuid")


def address_of(key: str) -> str:
    """The name of the socket."""
    return "\0laneway-command-" + hashlib.sha256(b"laneway command socket\n" + key.encode()).hexdigest()[:40]


def is_of_this_user(descriptor: int) -> bool:
    """Whether the other side of a connected socket is a process of our own user."""
    return _peer(descriptor)[1] == os.geteuid()


def holder_of(address: str) -> int | None:
    """The process that listens under this name; None if none does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.setblocking(False)
        return None if connection.connect_ex(address) else _peer(connection.fileno())[0]


def _peer(descriptor: int) -> tuple[int, int]:
    """Process and user of the other side."""
    with socket.socket(fileno=os.dup(descriptor)) as connection:
        given = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    process, user, _ = _CREDENTIALS.unpack(given)
    return process, user


def is_taken(error: OSError) -> bool:
    """Whether a socket cannot have a name because another process has it."""
    return error.errno == errno.EADDRINUSE


def new_nonce() -> str:
    """A number that is used once: a proof that contains it cannot be an old one."""
    return os.urandom(32).hex()


def proof(key: str, role: Literal["api", "command"], *, command: object, api: object) -> str:
    """Shows that a side has the key. `command`, `api`: the nonces of the two sides. Raises ValueError for others."""
    nonces = [nonce for nonce in (command, api) if isinstance(nonce, str) and NONCE.fullmatch(nonce)]
    if len(nonces) != 2:
        raise ValueError("that is no nonce")
    return hmac.new(key.encode(), "\n".join((role, *nonces)).encode(), hashlib.sha256).hexdigest()


def is_proof(given: object, expected: str) -> bool:
    """Whether the other side sent the proof that we expect. It takes as long for each wrong one."""
    return isinstance(given, str) and hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode())


def json_bytes(value: object) -> bytes:
    """JSON as short as clients send it over HTTP, so that the same limits hold."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


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
