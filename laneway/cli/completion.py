"""Words that the shell offers: names of tasks and queues, and ids of recent tasks.

They are asked from the API of the platform, with a short time limit. Whatever goes wrong, nothing is offered: a
completion is never slow and never prints an error. Only the standard library asks, so that it starts quickly.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Thread
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import typer

LIMIT_SECONDS: Final = 0.4
MOST_BYTES: Final = 1_000_000
MOST_WORDS: Final = 200
DEFAULT_PORT: Final = "8000"

Complete = Callable[[typer.Context, str], list[str]]


def complete(kind: str) -> Complete:
    """The completion of one kind of words: a key of `_READERS`."""

    def words(ctx: typer.Context, incomplete: str) -> list[str]:
        found, address = list[str](), _address(ctx)

        def read() -> None:
            with suppress(Exception):  # a completion prints no error
                found.extend(_READERS[kind](address))

        reader = Thread(target=read, daemon=True)  # a server that sends a byte now and then must not hold the shell
        reader.start()
        reader.join(LIMIT_SECONDS)
        offered = found if not reader.is_alive() else []
        return [word for word in offered if word.isprintable() and word.startswith(incomplete)][:MOST_WORDS]

    return words


@dataclass(frozen=True, slots=True)
class Api:
    """Where the API of the platform is. The token goes only to the URL that it was given for."""

    url: str | None
    token: str | None = field(repr=False)

    def get(self, path: str) -> Any:
        """The answer to a request."""
        from http.client import HTTPConnection, HTTPSConnection

        parts = urlsplit(self.url or f"http://127.0.0.1:{_local_port()}")
        headers = {"Accept": "application/json"}
        if self.url and self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=LIMIT_SECONDS)
        try:
            connection.request("GET", parts.path.rstrip("/") + path, headers=headers)
            response = connection.getresponse()
            if response.status != 200:
                raise OSError(response.status)
            return json.loads(response.read(MOST_BYTES))
        finally:
            connection.close()


def _address(ctx: typer.Context) -> Api:
    given = ctx.find_root().params
    return Api(given.get("url") or os.environ.get("LANEWAY_URL"), given.get("token") or os.environ.get("LANEWAY_TOKEN"))


def _names(api: Api) -> Iterable[str]:
    return [each["name"] for each in api.get("/task-names")["names"]]


def _queues(api: Api) -> Iterable[str]:
    return [each["queue"] for each in api.get("/queues")["queues"]]


def _ids(api: Api) -> Iterable[str]:
    return [each["task_id"] for each in api.get("/tasks?" + urlencode({"limit": 50}))["tasks"]]


def _dead(api: Api) -> Iterable[str]:
    return [each["task_id"] for each in api.get("/dead-letters?" + urlencode({"limit": 50}))["dead_letters"]]


def _workflows(api: Api) -> Iterable[str]:
    return [each["workflow_id"] for each in api.get("/api/workflows?" + urlencode({"limit": 50}))["workflows"]]


def _workflow_types(api: Api) -> Iterable[str]:
    return [each["workflow_type"] for each in api.get("/api/workflow-definitions")["definitions"]]


_READERS: Final[dict[str, Callable[[Api], Iterable[str]]]] = {
    "names": _names,
    "queues": _queues,
    "ids": _ids,
    "dead": _dead,
    "workflows": _workflows,
    "workflow types": _workflow_types,
}


def _local_port() -> str:
    """API_PORT of the environment, else of the project's `.env`."""
    from laneway.cli.project import find_project

    if port := os.environ.get("API_PORT"):
        return port
    folder = find_project()
    if folder is None:
        raise OSError("no project")
    try:
        lines = (folder / ".env").read_text("utf-8").splitlines()
    except OSError:
        return DEFAULT_PORT
    ports = [line.partition("=")[2].strip().strip("'\"") for line in lines if line.strip().startswith("API_PORT=")]
    return ports[-1] if ports and ports[-1] else DEFAULT_PORT
