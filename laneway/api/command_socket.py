"""The socket over which commands of this machine's user ask the API, see `laneway._command_socket`.

A connection proves that it has the key, and then takes requests, one after the other. A request is handled by the
application as one that came over HTTP; its caller is the user of this machine, as if the command used the database
itself.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import socket
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

from fastapi import FastAPI
from starlette.types import Message, Scope

from laneway._command_socket import (
    KEY_FILE,
    address_of,
    code_identity,
    digest_of_file,
    digests,
    holder_of,
    is_of_this_user,
    is_proof,
    is_supported,
    is_taken,
    json_bytes,
    new_nonce,
    proof,
)
from laneway._masking import shown_address
from laneway.api.access import COMMAND
from laneway.api.errors import unexpected_error
from laneway.api.threads import write_in_thread
from laneway.platform.access.caller import Caller, acting_as
from laneway.platform.access.machine_user import machine_user
from laneway.platform.errors import ConfigError, PlatformError
from laneway.platform.logging import logger
from laneway.platform.operations.fresh_alerts import NOT_SWEPT, sweep_now
from laneway.platform.platform import Platform
from laneway.platform.settings import RedisSettings, project
from laneway.platform.settings.spelling import known_names, names_of_group
from laneway.platform.settings.stored_secret import stored_secret

log = logger(__name__)

MOST_CONNECTIONS: Final = 16
IDLE_SECONDS: Final = 30.0
"""A connection that sends nothing for so long is closed."""
STOP_SECONDS: Final = 5.0
"""Seconds that requests have to end when the API stops."""
HEADERS: Final = [(b"host", b"localhost"), (b"content-type", b"application/json")]
TAKEN: Final = (
    "Commands do not ask this process: another one has the name of their socket. If that is no API of this project, "
    "look what it is; then delete DATA_DIR/command-key and start the API again, which makes a new name."
)
BEHIND: Final = "This is what the database knows; newer events of tasks may be missing. {problem}"


@asynccontextmanager
async def answering_commands(app: FastAPI) -> AsyncGenerator[None]:
    """Answer commands while the block runs. Where that is not possible, commands use the database themselves."""
    platform: Platform = app.state.services
    try:
        listener, key = _listen(platform.settings.storage.folder) if is_supported() else (None, "")
    except (OSError, ConfigError) as error:
        log.info("commands do not ask this process", reason=str(error))
        listener, key = None, ""
    if listener is None:
        yield
        return
    commands = CommandSocket(app, platform, key)
    limit = 4 * platform.settings.api.max_body_bytes + 1_048_576  # the application refuses what is too large
    server = await asyncio.start_unix_server(commands.serve, sock=listener, limit=limit)
    try:
        yield
    finally:
        server.close()
        await commands.stop()


def _listen(folder: Path) -> tuple[socket.socket | None, str]:
    """A socket that can listen, and its key; no socket if another process has the name. Raises OSError, ConfigError."""
    key = stored_secret(folder / KEY_FILE, instead="DATA_DIR")
    address, listener = address_of(key), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(address)
    except OSError as error:
        listener.close()
        if not is_taken(error):
            raise
        log.warning(TAKEN, process=holder_of(address))
        return None, key
    return listener, key


class CommandSocket:
    """Serves the connections of one API process."""

    def __init__(self, app: FastAPI, platform: Platform, key: str) -> None:
        self._app, self._platform, self._key = app, platform, key
        self._caller = machine_user()
        self._greeting = greeting_of(platform)
        self._connections: set[asyncio.Task[Any]] = set()
        self._working: set[asyncio.Task[Any]] = set()
        self._stops = False

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Serve a connection to its end."""
        task = asyncio.current_task()
        if task is None or len(self._connections) >= MOST_CONNECTIONS:
            return writer.close()
        self._connections.add(task)
        try:
            with suppress(TimeoutError, ValueError, KeyError, TypeError, OSError):  # whoever sends that is no command
                if await self._is_allowed(reader, writer):
                    await self._write(writer, self._greeting)
                    await self._answer_all(task, reader, writer)
        finally:
            self._connections.discard(task)
            writer.close()
        return None

    async def stop(self) -> None:
        """End idle connections now, and the others after the request that is in work."""
        self._stops = True
        for task in self._connections - self._working:
            task.cancel()
        if working := set(self._working):
            await asyncio.wait(working, timeout=STOP_SECONDS)
        for task in self._connections:
            task.cancel()

    async def _is_allowed(self, reader: StreamReader, writer: StreamWriter) -> bool:
        if not is_of_this_user(writer.get_extra_info("socket").fileno()):
            return False
        if (opening := await self._read(reader)) is None:
            return False
        nonces = {"command": opening["nonce"], "api": new_nonce()}
        await self._write(writer, {"nonce": nonces["api"], "proof": proof(self._key, "api", **nonces)})
        answer = await self._read(reader)
        return answer is not None and is_proof(answer["proof"], proof(self._key, "command", **nonces))

    async def _answer_all(self, task: asyncio.Task[Any], reader: StreamReader, writer: StreamWriter) -> None:
        while not self._stops and (request := await self._read(reader)) is not None:
            self._working.add(task)
            gone = asyncio.create_task(_end_of(reader))
            try:
                await self._write(writer, await self._answer(request, gone))
            finally:
                gone.cancel()
                await asyncio.wait({gone})  # the stream has one reader
                self._working.discard(task)

    async def _answer(self, request: dict[str, Any], gone: asyncio.Task[None]) -> dict[str, Any]:
        scope = _scope(request, self._caller)
        try:
            missing = await self._sweep() if request.get("sweep") else []
            answer = await _call(self._app, scope, request.get("body"), gone)
            if (problem := self._platform.recorder.problem) is not None:
                missing.append(BEHIND.format(problem=problem))
        except Exception as error:  # noqa: BLE001 - it is logged, and whoever asked gets an answer
            response = unexpected_error(scope["path"], error)
            return {"status": 500, "retry_after": None, "body": bytes(response.body).decode(), "missing": []}
        return answer | {"missing": missing}

    async def _sweep(self) -> list[str]:
        """Look for problems now; returns why that was not possible."""
        with acting_as(self._caller):
            try:
                problem = await write_in_thread(sweep_now, self._platform.alerts)
            except PlatformError as error:
                problem = NOT_SWEPT.format(error=error)
        return [problem] if problem else []

    @staticmethod
    async def _read(reader: StreamReader) -> dict[str, Any] | None:
        async with asyncio.timeout(IDLE_SECONDS):
            line = await reader.readline()
        return json.loads(line) if line else None

    @staticmethod
    async def _write(writer: StreamWriter, message: dict[str, Any]) -> None:
        writer.write(json_bytes(message) + b"\n")
        async with asyncio.timeout(IDLE_SECONDS):
            await writer.drain()


def greeting_of(platform: Platform) -> dict[str, Any]:
    """What tells a command whether this is the platform that it would use itself. Values of settings are digests."""
    settings, salt = platform.settings, secrets.token_hex(8)
    names = known_names(type(settings)) - {"DATA_DIR"}
    return {
        "code": code_identity(project.path),
        "process": os.getpid(),
        "project": str(project.path),
        "data": str(settings.storage.folder),
        "env_file": digest_of_file(project.env_file),
        "salt": salt,
        "names": sorted(names),
        "servers": sorted({*names_of_group(RedisSettings), "DATABASE_URL"}),
        "settings": digests(os.environ, names, salt=salt),
        "addresses": [shown_address(settings.storage.url), shown_address(settings.redis.broker_url)],
        "on_engine": settings.redis.on_engine,
    }


def _scope(request: dict[str, Any], caller: Caller) -> Scope:
    path, _, query = str(request["target"]).partition("?")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": str(request["method"]),
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [*HEADERS, (b"last-event-id", str(int(request.get("after", 0))).encode())],
        "client": None,
        "server": None,
        "state": {},
        COMMAND: caller,
    }


async def _end_of(reader: StreamReader) -> None:
    """Wait until the command has gone: it sends nothing before it has its answer."""
    with suppress(OSError):
        await reader.read(1)


async def _call(app: FastAPI, scope: Scope, body: object, gone: asyncio.Task[None]) -> dict[str, Any]:
    """Let the application handle a request; returns status and body. It learns when the command has gone."""
    sent = b"" if body is None else json_bytes(body)
    messages: list[Message] = [{"type": "http.request", "body": sent, "more_body": False}]
    answer: dict[str, Any] = {"status": 500, "retry_after": None}
    chunks: list[bytes] = []

    async def receive() -> Message:
        if messages:
            return messages.pop()
        await asyncio.wait({gone})
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = dict(message["headers"])
            answer.update(status=message["status"], retry_after=headers.get(b"retry-after", b"").decode() or None)
        else:
            chunks.append(message.get("body", b""))

    await app(scope, receive, send)
    return answer | {"body": b"".join(chunks).decode()}
