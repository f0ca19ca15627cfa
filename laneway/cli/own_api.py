"""The API of the project on this machine, asked over a socket that only this user's processes can use.

It is as quick as a platform at a URL: the command imports neither the platform nor its libraries. It is used if it is
certain that the API serves what the command would use itself: the same code, project, data folder, `.env`, settings.
"""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, TypeVar
from urllib.parse import urlencode

from laneway._command_socket import (
    LONGEST_PROOF,
    address_of,
    code_identity,
    digest_of_file,
    has_same_settings,
    is_of_this_user,
    is_proof,
    is_supported,
    json_bytes,
    new_nonce,
    proof,
    read_key,
)
from laneway.cli.missing import say_missing
from laneway.cli.project import project_folder, project_name

if TYPE_CHECKING:
    from laneway.client.calls import Call
    from laneway.schemas.task import EventView

T = TypeVar("T")
GREETING_SECONDS: Final = 1.0
"""An API that takes longer to greet is not used: the command does the work itself."""
ANSWER_SECONDS: Final = 120.0
"""Seconds that a request may take. The API gives up earlier."""
LONG_SECONDS: Final = 86_400.0
"""The same for a request that may take minutes. If the API ends, the kernel closes the connection at once."""
ENV_FILE: Final = ".env"
STOPPING: Final = "stopping"
"""The last event of a stream whose API stops."""
_DATA_DIR: Final = re.compile(r"^\s*(?:export\s+)?DATA_DIR\s*=(.*)$", re.IGNORECASE)
_PLAIN: Final = re.compile(r"[\w./~-]+", re.ASCII)


class OwnApi:
    """A connection to the API of the project."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection, self._lines = connection, connection.makefile("rb")
        self._greeting: dict[str, Any] = {}

    def greet(self, key: str) -> None:
        """Take the greeting of a program that proves that it has the key. Raises OSError, ValueError, TypeError.

        Before its proof one message of it is read, and no more than a few bytes: it may be another program.
        """
        nonce = new_nonce()
        self._connection.sendall(json_bytes({"nonce": nonce}) + b"\n")
        answer = json.loads(self._connection.recv(LONGEST_PROOF))
        nonces = {"command": nonce, "api": answer["nonce"]}
        if not is_proof(answer["proof"], proof(key, "api", **nonces)):
            raise ConnectionError("another program has taken the name")
        self._greeting = _exchange(self._connection, self._lines, {"proof": proof(key, "command", **nonces)})

    def serves(self, project: Path, data: Path) -> bool:
        """Whether the API serves the platform that this command would use itself."""
        ours = {
            "code": code_identity(project),
            "project": str(project),
            "data": str(data),
            "env_file": digest_of_file(project / ENV_FILE),
        }
        is_same = all(self._greeting[name] == value for name, value in ours.items())
        return is_same and has_same_settings(self._greeting, os.environ)

    @property
    def description(self) -> str:
        """Whose platform it is, in a few words."""
        name = project_name(Path(self._greeting["project"]))
        return (
            f"{name}: {', '.join(self._greeting['addresses'])} (through its API, process {self._greeting['process']})"
        )

    @property
    def has_engine(self) -> bool:
        """Whether the delivery engine is the broker."""
        return bool(self._greeting["on_engine"])

    def send(self, call: Call[T], *, sweep: bool = False) -> T:
        """Send a call; returns its answer. `sweep`: the API looks for problems first. Raises a ClientError."""
        from laneway.client.answers import checked_json

        target = call.path + (f"?{urlencode(call.params, doseq=True)}" if call.params else "")
        seconds = LONG_SECONDS if call.is_long else ANSWER_SECONDS
        answer = self._exchange(call.method, target, call.body, seconds=seconds, sweep=sweep)
        return call.read(checked_json(answer["status"], answer["body"], answer["retry_after"]))

    def events(self, id: str, *, after: int, follow: bool) -> Iterator[EventView]:
        """The events of a task after this one that exist now. Raises a ClientError."""
        from laneway.client.answers import checked_json, read_event
        from laneway.client.calls import events_path

        answer = self._exchange("GET", events_path(id, follow=follow), None, after=after)
        if answer["status"] != 200:
            checked_json(answer["status"], answer["body"], answer["retry_after"])
        for line in answer["body"].splitlines():
            if line == f"event: {STOPPING}":
                return
            if line.startswith("data:"):
                yield read_event(line.removeprefix("data:"))

    def close(self) -> None:
        """Close the connection."""
        self._lines.close()
        self._connection.close()

    def _exchange(
        self, method: str, target: str, body: object, *, seconds: float = ANSWER_SECONDS, **more: object
    ) -> dict[str, Any]:
        from laneway.client.errors import Unreachable

        request = {"method": method, "target": target, "body": body, **more}
        try:
            self._connection.settimeout(seconds)
            answer = _exchange(self._connection, self._lines, request)
        except (OSError, ValueError) as error:
            what = "did not answer in time" if isinstance(error, TimeoutError) else "ended before it answered"
            raise Unreachable(
                f"The API of this project (process {self._greeting['process']}) {what}. Look what became of the "
                "request before you repeat it; `laneway --direct` works without the API."
            ) from error
        for text in answer["missing"]:
            say_missing(text)
        return answer


def find_own_api() -> OwnApi | None:
    """The API of the project in the current folder; None if none runs here that serves what the command would use."""
    with (
        ExitStack() as failed,
        suppress(OSError, ValueError, KeyError, TypeError),
    ):  # nothing listens, or another program
        project = project_folder()
        data = _data_folder(project) if is_supported() else None
        key = read_key(data) if data else None
        if data is None or key is None:
            return None
        connection = failed.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        connection.settimeout(GREETING_SECONDS)
        connection.connect(address_of(key))
        if not is_of_this_user(connection.fileno()):
            return None
        api = failed.enter_context(closing(OwnApi(connection)))
        api.greet(key)
        if api.serves(project, data):
            failed.pop_all()
            return api
    return None


def _data_folder(project: Path) -> Path | None:
    """`DATA_DIR`, absolute; None if that needs the rules of `.env`."""
    try:
        lines = (project / ENV_FILE).read_text("utf-8")
    except FileNotFoundError:
        lines = ""
    if "${" in lines:  # what it means depends on the environment
        return None
    given = [value for name, value in os.environ.items() if name.upper() == "DATA_DIR" and value]
    found = [found[1] for line in lines.splitlines() if (found := _DATA_DIR.match(line))]
    folder = given[-1] if given else _plain(found)
    return None if folder is None else Path(os.path.normpath(project / Path(folder).expanduser())).resolve()


def _plain(values: list[str]) -> str | None:
    """The last value of lines in `.env`, without quotes, or the default; None if it needs the rules of `.env`."""
    value = values[-1].strip() if values else ""
    if value[:1] in ("'", '"') and value[-1:] == value[:1]:
        value = value[1:-1]
    return (value if _PLAIN.fullmatch(value) else None) if value else "data"


def _exchange(connection: socket.socket, lines: BinaryIO, message: dict[str, Any]) -> dict[str, Any]:
    """Send a message and return the answer. Raises OSError, ValueError."""
    connection.sendall(json_bytes(message) + b"\n")
    if not (line := lines.readline()).endswith(b"\n"):
        raise ConnectionError("the connection has ended")
    return json.loads(line)
